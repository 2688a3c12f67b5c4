//! `#[derive(Error)]`: an enum whose borsh is what a method reverts with.

use crate::{attrs, data};
use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Fields, LitStr, Variant};

/// Text, which a panic reverts with, begins with a printable character: from 32 on.
const MAX_VARIANTS: usize = 32;

pub(crate) fn expand(input: &DeriveInput) -> syn::Result<TokenStream> {
    let ident = &input.ident;
    let Data::Enum(body) = &input.data else {
        return Err(syn::Error::new_spanned(ident, "an error is an enum"));
    };
    if body.variants.len() > MAX_VARIANTS {
        return Err(syn::Error::new_spanned(
            ident,
            format!(
                "an error has at most {MAX_VARIANTS} variants, so that its first byte tells it from the text of a panic: \
                 move some into an enum of their own, in a field"
            ),
        ));
    }
    let data = data::expand_with(input, text)?;
    let mut from = Vec::new();
    for variant in &body.variants {
        for field in &variant.fields {
            data::refuse(
                &field.attrs,
                "from",
                "`#[from]` stands before the variant, not before its field",
            )?;
        }
        if !variant
            .attrs
            .iter()
            .any(|attr| attr.path().is_ident("from"))
        {
            continue;
        }
        let Fields::Unnamed(fields) = &variant.fields else {
            return Err(from_what(variant));
        };
        let (Some(field), 1) = (fields.unnamed.first(), fields.unnamed.len()) else {
            return Err(from_what(variant));
        };
        let (name, ty) = (&variant.ident, &field.ty);
        from.push(quote! {
            #[automatically_derived]
            impl ::core::convert::From<#ty> for #ident {
                fn from(from: #ty) -> Self {
                    Self::#name(from)
                }
            }
        });
    }
    Ok(quote! {
        #data
        #[automatically_derived]
        impl ::slackline::Error for #ident {}
        #(#from)*
    })
}

fn from_what(variant: &Variant) -> syn::Error {
    syn::Error::new_spanned(
        variant,
        "`#[from]` is for a variant with one field without a name, like `Call(CallError)`",
    )
}

/// What the description says about the error: `#[error("…")]`, or else its documentation.
fn text(variant: &Variant) -> syn::Result<String> {
    let mut given = variant
        .attrs
        .iter()
        .filter(|attr| attr.path().is_ident("error"));
    match (given.next(), given.next()) {
        (None, _) => Ok(attrs::doc(&variant.attrs)),
        (Some(attr), None) => Ok(attr.parse_args::<LitStr>()?.value()),
        (_, Some(again)) => Err(syn::Error::new_spanned(again, "`#[error]` is here twice")),
    }
}
