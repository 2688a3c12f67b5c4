//! `#[derive(Data)]`: borsh both ways and the description of the type.
//!
//! Borsh's own derives say in prose what they could not decode, which is kilobytes in a contract; these do not.

use crate::attrs;
use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Attribute, Data, DeriveInput, Fields, Variant};

pub(crate) fn expand(input: &DeriveInput) -> syn::Result<TokenStream> {
    let docs = |variant: &Variant| Ok(attrs::doc(&variant.attrs));
    expand_with(input, docs)
}

/// `variant_doc` is what the description says about a variant.
pub(crate) fn expand_with(
    input: &DeriveInput,
    variant_doc: impl Fn(&Variant) -> syn::Result<String>,
) -> syn::Result<TokenStream> {
    no_generics(input)?;
    let ident = &input.ident;
    let name = attrs::name(ident);
    let (body, serialize, deserialize) = match &input.data {
        Data::Struct(data) => {
            let fields = describe_fields(&data.fields);
            let (pattern, bound) = pattern(&data.fields);
            let construct = construct(&data.fields);
            (
                quote!(::slackline::abi::Body::Struct(#fields)),
                quote! {
                    let Self #pattern = self;
                    #(::slackline::borsh::BorshSerialize::serialize(#bound, writer)?;)*
                },
                quote!(::core::result::Result::Ok(Self #construct)),
            )
        }
        Data::Enum(data) => {
            if data.variants.len() > 256 {
                return Err(syn::Error::new_spanned(
                    ident,
                    "an enum has at most 256 variants: its first byte says which",
                ));
            }
            let mut described = Vec::new();
            let mut write = Vec::new();
            let mut read = Vec::new();
            for (tag, variant) in (0..=u8::MAX).zip(&data.variants) {
                if let Some((_, value)) = &variant.discriminant {
                    return Err(syn::Error::new_spanned(
                        value,
                        "variants are numbered in their order; a value of one's own would not be what is encoded",
                    ));
                }
                let (variant_ident, variant_name) = (&variant.ident, attrs::name(&variant.ident));
                let doc = variant_doc(variant)?;
                let fields = describe_fields(&variant.fields);
                let (pattern, bound) = pattern(&variant.fields);
                let construct = construct(&variant.fields);
                described.push(quote! {
                    ::slackline::abi::Variant { name: #variant_name, doc: #doc, fields: #fields }
                });
                write.push(quote! {
                    Self::#variant_ident #pattern => {
                        ::slackline::borsh::BorshSerialize::serialize(&#tag, writer)?;
                        #(::slackline::borsh::BorshSerialize::serialize(#bound, writer)?;)*
                    }
                });
                read.push(quote!(#tag => Self::#variant_ident #construct,));
            }
            let write = if write.is_empty() {
                quote!(let _ = writer; match *self {})
            } else {
                quote!(match self { #(#write)* })
            };
            (
                quote!(::slackline::abi::Body::Enum(&[#(#described),*])),
                write,
                quote! {
                    let tag: u8 = ::slackline::borsh::BorshDeserialize::deserialize_reader(reader)?;
                    ::core::result::Result::Ok(match tag {
                        #(#read)*
                        _ => return ::core::result::Result::Err(::slackline::__private::malformed()),
                    })
                },
            )
        }
        Data::Union(data) => {
            return Err(syn::Error::new_spanned(
                data.union_token,
                "a union has no encoding: make it a struct or an enum",
            ));
        }
    };
    Ok(quote! {
        #[automatically_derived]
        impl ::slackline::abi::Describe for #ident {
            const SCHEMA: &'static ::slackline::abi::Schema =
                &::slackline::abi::Schema::Named(&::slackline::abi::Named {
                    name: #name,
                    path: ::core::concat!(::core::module_path!(), "::", #name),
                    body: #body,
                });
        }
        #[automatically_derived]
        impl ::slackline::borsh::BorshSerialize for #ident {
            #[allow(unused_variables)]
            fn serialize<W: ::slackline::borsh::io::Write>(
                &self,
                writer: &mut W,
            ) -> ::slackline::borsh::io::Result<()> {
                #serialize
                #[allow(unreachable_code)]
                ::core::result::Result::Ok(())
            }
        }
        #[automatically_derived]
        impl ::slackline::borsh::BorshDeserialize for #ident {
            #[allow(unused_variables, unreachable_code)]
            fn deserialize_reader<R: ::slackline::borsh::io::Read>(
                reader: &mut R,
            ) -> ::slackline::borsh::io::Result<Self> {
                #deserialize
            }
        }
    })
}

pub(crate) fn no_generics(input: &DeriveInput) -> syn::Result<()> {
    if input.generics.params.is_empty() {
        return Ok(());
    }
    Err(syn::Error::new_spanned(
        &input.generics,
        "the description of a contract has no generic types: name the ones that it uses",
    ))
}

/// An expression of type `slackline::abi::Fields`.
fn describe_fields(fields: &Fields) -> TokenStream {
    let schemas = fields.iter().map(|field| schema_of(&field.ty));
    match fields {
        Fields::Unit => quote!(::slackline::abi::Fields::Unit),
        Fields::Unnamed(_) => quote!(::slackline::abi::Fields::Tuple(&[#(#schemas),*])),
        Fields::Named(fields) => {
            let names = fields
                .named
                .iter()
                .filter_map(|field| field.ident.as_ref().map(attrs::name));
            quote!(::slackline::abi::Fields::Named(&[
                #(::slackline::abi::Field { name: #names, schema: #schemas }),*
            ]))
        }
    }
}

/// The schema of a type. An error that it has none points at the type.
pub(crate) fn schema_of(ty: &syn::Type) -> TokenStream {
    quote!(<#ty as ::slackline::abi::Describe>::SCHEMA)
}

/// A pattern that binds all fields, and the names that it binds them to.
fn pattern(fields: &Fields) -> (TokenStream, Vec<syn::Ident>) {
    let bound: Vec<_> = (0..fields.len())
        .map(|i| format_ident!("field_{i}"))
        .collect();
    let pattern = match fields {
        Fields::Unit => quote!(),
        Fields::Unnamed(_) => quote!((#(#bound),*)),
        Fields::Named(fields) => {
            let names = fields.named.iter().map(|field| &field.ident);
            quote!({ #(#names: #bound),* })
        }
    };
    (pattern, bound)
}

/// What follows the name of a struct or variant to make one whose fields are read from `reader`.
fn construct(fields: &Fields) -> TokenStream {
    let read = quote!(::slackline::borsh::BorshDeserialize::deserialize_reader(
        reader
    )?);
    match fields {
        Fields::Unit => quote!(),
        Fields::Unnamed(fields) => {
            let read = fields.unnamed.iter().map(|_| &read);
            quote!((#(#read),*))
        }
        Fields::Named(fields) => {
            let names = fields.named.iter().map(|field| &field.ident);
            quote!({ #(#names: #read),* })
        }
    }
}

/// Refuses attributes that mean nothing where they stand.
pub(crate) fn refuse(attrs: &[Attribute], name: &str, why: &str) -> syn::Result<()> {
    match attrs.iter().find(|attr| attr.path().is_ident(name)) {
        None => Ok(()),
        Some(attr) => Err(syn::Error::new_spanned(attr, why)),
    }
}
