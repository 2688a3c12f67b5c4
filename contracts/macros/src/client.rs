//! Typed clients: a struct whose functions call the methods of a contract at an address.

use crate::method::{Kind, Method};
use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Ident, Visibility};

pub(crate) fn expand<'a>(
    vis: &Visibility,
    of: &Ident,
    methods: impl Iterator<Item = &'a Method>,
) -> TokenStream {
    let client = format_ident!("{of}Client");
    let calls = methods.map(|method| match method.kind {
        Kind::Method => call(method),
        Kind::Init => instantiate(method),
        Kind::Upgrade => quote!(),
    });
    let doc = format!("Calls the methods of a `{of}` at an address.");
    quote! {
        #[doc = #doc]
        #[derive(Clone, Copy, Debug)]
        #[allow(dead_code)]
        #vis struct #client {
            call: ::slackline::Call,
        }

        impl ::slackline::Client for #client {
            fn call_mut(&mut self) -> &mut ::slackline::Call {
                &mut self.call
            }
        }

        #[allow(dead_code, clippy::too_many_arguments)]
        impl #client {
            /// A client of the contract at `address`. Nothing is checked before the first call.
            pub fn new(address: ::slackline::Address) -> Self {
                Self { call: ::slackline::Call::new(address) }
            }

            #(#calls)*
        }
    }
}

fn call(method: &Method) -> TokenStream {
    let Method {
        ident,
        name,
        output,
        view,
        docs,
        ..
    } = method;
    let (names, types): (Vec<_>, Vec<_>) = method.args.iter().map(|(i, t)| (i, t)).unzip();
    let result = result(output);
    quote! {
        #(#docs)*
        pub fn #ident(&self, #(#names: #types),*) -> #result {
            self.call.call(#view, #name, &(#(&#names,)*))
        }
    }
}

fn result(output: &syn::Type) -> TokenStream {
    quote_spanned! {output.span()=>
        ::core::result::Result<<#output as ::slackline::__private::Returns>::Value, ::slackline::CallError>
    }
}

fn instantiate(method: &Method) -> TokenStream {
    let (names, types): (Vec<_>, Vec<_>) = method.args.iter().map(|(i, t)| (i, t)).unzip();
    let (value_arg, value) = if method.payable {
        (quote!(value: u128,), quote!(value))
    } else {
        (quote!(), quote!(0))
    };
    quote! {
        /// Deploys the contract whose code, on chain already, hashes to `code_hash`, and runs its `init` with all the
        /// fuel that may be given.
        pub fn instantiate(
            code_hash: ::slackline::Hash,
            #value_arg
            #(#names: #types),*
        ) -> ::core::result::Result<Self, ::slackline::CallError> {
            let address =
                ::slackline::deploy(&code_hash, &(#(&#names,)*), #value, ::core::option::Option::None)?;
            ::core::result::Result::Ok(Self::new(address))
        }
    }
}
