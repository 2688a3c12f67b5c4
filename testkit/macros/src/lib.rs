//! Attributes of the tests of contracts. Use them by `slackline_testkit`, which has what they stand for.
//!
//! ```text
//!   #[fuel_at_most(1_500_000)]          fn f() -> R {
//!   fn f() -> R { body }          ──▶       let _section = slackline_testkit::section::at_most("f", 1_500_000);
//!                                           body            // the guard ends with the function: also by `?`, `return` and panics
//!                                       }
//! ```

use proc_macro2::TokenStream;
use quote::quote;
use syn::{ItemFn, LitInt, LitStr};

/// The test, or a function that tests call, may use so much fuel and no more: `#[fuel_at_most(1_500_000)]`. It panics at its end when the
/// transactions and views that it made on its thread have used more, unless they are unmetered.
#[proc_macro_attribute]
pub fn fuel_at_most(
    most: proc_macro::TokenStream,
    function: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    expand(function.into(), |name| {
        let most: LitInt = syn::parse(most)?;
        let most: u64 = most.base10_parse()?;
        Ok(quote! { ::slackline_testkit::section::at_most(#name, #most) })
    })
    .into()
}

/// The function is a section with its own line in reports of tests, as `Kit::measure` makes them: `#[measured]`, by the name of the
/// function, or `#[measured("two swaps")]`.
#[proc_macro_attribute]
pub fn measured(
    name: proc_macro::TokenStream,
    function: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    expand(function.into(), |function| {
        let name = match name.is_empty() {
            true => function.to_owned(),
            false => syn::parse::<LitStr>(name)?.value(),
        };
        Ok(quote! { ::slackline_testkit::section::measured(#name) })
    })
    .into()
}

/// The function is set-up, as in `Kit::unmetered`: what it executes is in no report, and counts for no bound.
#[proc_macro_attribute]
pub fn unmetered(
    nothing: proc_macro::TokenStream,
    function: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    expand(function.into(), |_| {
        let _: syn::parse::Nothing = syn::parse(nothing)?;
        Ok(quote! { ::slackline_testkit::section::unmetered() })
    })
    .into()
}

/// `function` with a guard that `guard` makes of its name, or what the compiler is to say.
fn expand(
    function: TokenStream,
    guard: impl FnOnce(&str) -> syn::Result<TokenStream>,
) -> TokenStream {
    let guarded = || {
        let ItemFn {
            attrs,
            vis,
            sig,
            block,
            ..
        } = syn::parse2(function)?;
        if let Some(asyncness) = &sig.asyncness {
            let reason =
                "what is executed is told apart by threads, and this may go from one to another";
            return Err(syn::Error::new_spanned(asyncness, reason));
        }
        let guard = guard(&sig.ident.to_string())?;
        let statements = &block.stmts;
        Ok(quote! {
            #(#attrs)*
            #vis #sig {
                let _section = #guard;
                #(#statements)*
            }
        })
    };
    guarded().unwrap_or_else(|error: syn::Error| error.into_compile_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(function: TokenStream) -> String {
        expand(function, |name| Ok(quote! { guard(#name) })).to_string()
    }

    #[test]
    fn the_guard_comes_first_and_the_rest_stays() {
        let function = quote! {
            #[test]
            pub(crate) fn f<T: Copy>(a: &T) -> Result<T> { let b = g(a)?; Ok(*b) }
        };
        let expected = quote! {
            #[test]
            pub(crate) fn f<T: Copy>(a: &T) -> Result<T> { let _section = guard("f"); let b = g(a)?; Ok(*b) }
        };
        assert_eq!(expanded(function), expected.to_string());
    }

    #[test]
    fn what_cannot_be_measured_is_a_compile_error() {
        let error = expanded(quote! { async fn f() {} });
        assert!(
            error.contains("compile_error") && error.contains("by threads"),
            "{error}"
        );
        assert!(expanded(quote! { struct S; }).contains("compile_error"));
    }
}
