//! `#[derive(Event)]`: topics, data, and the description of both.

use crate::{attrs, data};
use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Fields};

/// Four topics, of which the first is the event's name.
const MAX_TOPICS: usize = 3;

pub(crate) fn expand(input: &DeriveInput) -> syn::Result<TokenStream> {
    data::no_generics(input)?;
    let ident = &input.ident;
    let fields = match &input.data {
        Data::Struct(body) => match &body.fields {
            Fields::Named(fields) => Some(&fields.named),
            Fields::Unit => None,
            Fields::Unnamed(fields) => {
                return Err(syn::Error::new_spanned(
                    fields,
                    "the fields of an event have names, which those who read it see",
                ));
            }
        },
        _ => return Err(syn::Error::new_spanned(ident, "an event is a struct")),
    };
    let fields: Vec<_> = fields.into_iter().flatten().collect();
    let topic = |field: &syn::Field| field.attrs.iter().any(|attr| attr.path().is_ident("topic"));
    if let Some(fourth) = fields.iter().filter(|field| topic(field)).nth(MAX_TOPICS) {
        return Err(syn::Error::new_spanned(
            fourth,
            format!("an event has at most {MAX_TOPICS} fields that are topics"),
        ));
    }

    let name = attrs::name(ident);
    let doc = attrs::doc(&input.attrs);
    let mut described = Vec::new();
    let mut topics = Vec::new();
    let mut write = Vec::new();
    let mut read = Vec::new();
    for field in &fields {
        let (field_ident, ty) = (&field.ident, &field.ty);
        let field_name = field_ident.as_ref().map(attrs::name);
        let schema = data::schema_of(ty);
        let is_topic = topic(field);
        described.push(quote! {
            ::slackline::abi::EventField { name: #field_name, schema: #schema, topic: #is_topic }
        });
        if is_topic {
            // Topic 0 is the event's.
            let at = topics.len() + 1;
            topics.push(quote!(::slackline::event::topic(&self.#field_ident)));
            write.push(quote! {
                if const { !::slackline::event::fits(#schema) } {
                    ::slackline::__private::append(data, &self.#field_ident);
                }
            });
            read.push(quote! {
                #field_ident: if const { ::slackline::event::fits(#schema) } {
                    ::slackline::event::from_topic(topics.get(#at)?)?
                } else {
                    <#ty as ::slackline::borsh::BorshDeserialize>::deserialize(&mut data).ok()?
                },
            });
        } else {
            write.push(quote!(::slackline::__private::append(data, &self.#field_ident);));
            read.push(quote! {
                #field_ident: <#ty as ::slackline::borsh::BorshDeserialize>::deserialize(&mut data).ok()?,
            });
        }
    }
    let count = topics.len() + 1;
    Ok(quote! {
        #[automatically_derived]
        impl ::slackline::Event for #ident {
            const TOPIC: ::slackline::Hash = ::slackline::event::name_topic(#name);

            const DESCRIPTION: &'static ::slackline::abi::Event = &::slackline::abi::Event {
                name: #name,
                doc: #doc,
                topic: Self::TOPIC,
                fields: &[#(#described),*],
            };

            #[allow(unused_variables)]
            fn append_data(&self, data: &mut ::slackline::__private::Vec<u8>) {
                #(#write)*
            }

            fn with_topics<R>(&self, f: impl FnOnce(&[[u8; 32]]) -> R) -> R {
                f(&[Self::TOPIC, #(#topics),*])
            }

            #[allow(unused_mut)]
            fn decode(topics: &[[u8; 32]], mut data: &[u8]) -> ::core::option::Option<Self> {
                if topics.len() != #count || topics[0] != Self::TOPIC {
                    return ::core::option::Option::None;
                }
                let event = Self { #(#read)* };
                data.is_empty().then_some(event)
            }
        }

        impl #ident {
            /// Writes this event into the receipt of the transaction.
            #[allow(dead_code)]
            pub fn emit(&self) {
                ::slackline::event::emit(self);
            }
        }
    })
}
