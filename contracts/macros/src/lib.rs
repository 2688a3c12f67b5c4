//! The macros of the contract SDK. Contracts take them from there: `slackline::contract`, `slackline::Event` and so on.
//!
//! ```text
//!   #[contract] mod token { … }             the same module, and in it
//!     #[storage] struct Token { … }  ─────▶   impl Storage for Token      each field's key prefix
//!     impl Token { pub fn … }        ─┬───▶   mod exports                 entry points: input ─borsh▶ method ─borsh▶ output
//!                                     ├───▶   struct TokenClient          typed calls from other contracts
//!     #[derive(Event)] struct …      ─┴───▶   sections slackline_abi, slackline_reentrant
//!
//!   #[interface] trait Fungible { … } ────▶ the trait, and FungibleClient
//!   #[derive(Data)]  struct, enum     ────▶ borsh both ways, Describe
//!   #[derive(Error)] enum             ────▶ Data, Error, From for fields marked #[from]
//!   #[derive(Event)] struct           ────▶ Event and `.emit()`
//! ```
//!
//! What they write refers to the SDK as `::slackline`, so that is what a contract has to call it.

#![forbid(unsafe_code)]

use proc_macro::TokenStream;
use syn::parse_macro_input;

mod attrs;
mod client;
mod contract;
mod data;
mod error;
mod event;
mod interface;
mod method;
#[cfg(test)]
mod tests;

/// Makes a contract of a module. See the documentation of the SDK.
#[proc_macro_attribute]
pub fn contract(args: TokenStream, item: TokenStream) -> TokenStream {
    let options = parse_macro_input!(args as contract::Options);
    let module = parse_macro_input!(item as syn::ItemMod);
    finish(contract::expand(options, module))
}

/// Makes a typed client of a trait that lists the methods of a contract. See the documentation of the SDK.
#[proc_macro_attribute]
pub fn interface(args: TokenStream, item: TokenStream) -> TokenStream {
    let _: syn::parse::Nothing = parse_macro_input!(args);
    let item = parse_macro_input!(item as syn::ItemTrait);
    finish(interface::expand(item))
}

/// Makes a type of the contract usable in arguments, results, storage, events and errors. See the documentation of the
/// SDK.
#[proc_macro_derive(Data)]
pub fn data(item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::DeriveInput);
    finish(data::expand(&item))
}

/// Makes an enum an error that methods may return. See the documentation of the SDK.
#[proc_macro_derive(Error, attributes(error, from))]
pub fn error(item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::DeriveInput);
    finish(error::expand(&item))
}

/// Makes a struct an event. See the documentation of the SDK.
#[proc_macro_derive(Event, attributes(topic))]
pub fn event(item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::DeriveInput);
    finish(event::expand(&item))
}

fn finish(expanded: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    expanded
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
