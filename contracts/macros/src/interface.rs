//! `#[interface]`: a trait of methods, and a client for contracts that have them.

use crate::client;
use crate::method::{Kind, Method};
use proc_macro2::TokenStream;
use quote::quote;
use syn::{ItemTrait, TraitItem};

pub(crate) fn expand(mut item: ItemTrait) -> syn::Result<TokenStream> {
    if !item.generics.params.is_empty() {
        return Err(syn::Error::new_spanned(
            &item.generics,
            "an interface has no generics: its callers send bytes of known types",
        ));
    }
    let mut methods = Vec::new();
    for item in &mut item.items {
        let TraitItem::Fn(function) = item else {
            return Err(syn::Error::new_spanned(
                item,
                "an interface consists of methods",
            ));
        };
        if let Some(body) = &function.default {
            return Err(syn::Error::new_spanned(
                body,
                "an interface says what can be called: no bodies",
            ));
        }
        let method = Method::parse(&mut function.attrs, &function.sig)?;
        if method.kind != Kind::Method {
            return Err(syn::Error::new_spanned(
                &function.sig.ident,
                "what runs at deployment or upgrade cannot be called: not in an interface",
            ));
        }
        methods.push(method);
    }
    let client = client::expand(&item.vis, &item.ident, methods.iter());
    Ok(quote! {
        #item
        #client
    })
}
