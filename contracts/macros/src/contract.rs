//! `#[contract]`: a module that has a storage struct and its methods, and gets everything else.

use crate::method::{Kind, Method};
use crate::{attrs, client};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use std::collections::BTreeMap;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{
    Fields, Ident, ImplItem, Item, ItemImpl, ItemMod, ItemStruct, LitInt, Path, Token, Type,
    Visibility, parenthesized, parse_quote,
};

/// `#[contract]` or `#[contract(events(path::To, Others))]`.
#[derive(Default)]
pub(crate) struct Options {
    /// Events from outside the module.
    events: Vec<Path>,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut options = Self::default();
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            if name != "events" {
                return Err(syn::Error::new_spanned(
                    name,
                    "the one argument is `events(path::To::Event, …)`, for events from outside the module",
                ));
            }
            let list;
            parenthesized!(list in input);
            options
                .events
                .extend(Punctuated::<Path, Token![,]>::parse_terminated(&list)?);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(options)
    }
}

pub(crate) fn expand(options: Options, mut module: ItemMod) -> syn::Result<TokenStream> {
    let Some((_, items)) = &mut module.content else {
        return Err(syn::Error::new_spanned(
            &module,
            "`#[contract]` needs the module's contents: `mod name { … }`",
        ));
    };
    let storage = take_storage(&module.ident, items)?;
    let open = open(&storage.0)?;
    let storage = storage.1;

    let mut methods: Vec<(Method, TokenStream)> = Vec::new();
    let mut impls = 0;
    for item in &mut *items {
        let Item::Impl(item) = item else { continue };
        if is_type(&item.self_ty, &storage) {
            impls += 1;
            collect(item, &mut methods)?;
        }
    }
    if impls == 0 {
        return Err(syn::Error::new_spanned(
            &storage,
            format!("the methods of the contract are missing: `impl {storage} {{ pub fn … }}`"),
        ));
    }
    let mut seen = BTreeMap::new();
    for (method, _) in &methods {
        if seen.insert(&method.name, ()).is_some() {
            return Err(syn::Error::new_spanned(
                &method.ident,
                format!("there is another method `{}`", method.name),
            ));
        }
    }

    let events: Vec<Path> = items
        .iter()
        .filter_map(|item| match item {
            Item::Struct(item) if attrs::derives(&item.attrs, "Event") => {
                Some(Path::from(item.ident.clone()))
            }
            _ => None,
        })
        .chain(options.events)
        .collect();

    let name = attrs::name(&module.ident);
    let doc = attrs::doc(&module.attrs);
    let entries = methods.iter().map(|(method, target)| method.entry(target));
    let descriptions = methods.iter().map(|(method, _)| method.describe());
    let exports = methods.iter().map(|(method, _)| export(&storage, method));
    let reentrant: Vec<&str> = methods
        .iter()
        .filter(|(method, _)| method.reentrant)
        .map(|(method, _)| method.name.as_str())
        .collect();
    let reentrant = (!reentrant.is_empty()).then(|| {
        let list = proc_macro2::Literal::byte_string(reentrant.join("\n").as_bytes());
        quote! {
            #[cfg(target_arch = "wasm32")]
            #[unsafe(link_section = "slackline_reentrant")]
            static REENTRANT: [u8; { #list.len() }] = *#list;
        }
    });
    let vis: Visibility = parse_quote!(pub);
    let client = client::expand(&vis, &storage, methods.iter().map(|(method, _)| method));

    let generated: syn::File = parse_quote! {
        impl ::slackline::Storage for #storage {
            const ABI: &'static ::slackline::abi::Contract = &::slackline::abi::Contract {
                name: #name,
                doc: #doc,
                methods: &[#(#descriptions),*],
                events: &[#(<#events as ::slackline::Event>::DESCRIPTION),*],
            };

            fn open() -> Self {
                #open
            }
        }

        impl #storage {
            #(#entries)*
        }

        #client

        /// The methods of this contract as the node calls them, and their description.
        #[allow(dead_code)]
        pub mod exports {
            #(#exports)*

            const ABI_LEN: usize =
                ::slackline::abi::json_len(<super::#storage as ::slackline::Storage>::ABI);
            const ABI_BYTES: [u8; ABI_LEN] =
                ::slackline::abi::json(<super::#storage as ::slackline::Storage>::ABI);

            // A contract that cannot be described does not compile, for tests neither.
            const _: () = assert!(ABI_LEN > 0);

            /// The description of the contract, JSON: what the section `slackline_abi` holds.
            pub const ABI: &[u8] = &ABI_BYTES;

            // Not `#[used]`, with which it would be among the data too.
            #[cfg(target_arch = "wasm32")]
            #[unsafe(link_section = "slackline_abi")]
            static ABI_SECTION: [u8; ABI_LEN] = ABI_BYTES;

            #reentrant
        }
    };
    items.extend(generated.items);
    Ok(quote!(#module))
}

/// The struct marked `#[storage]`, without the attributes that are the SDK's, and its name.
fn take_storage(module: &Ident, items: &mut [Item]) -> syn::Result<(ParsedStorage, Ident)> {
    let mut found: Option<(ParsedStorage, Ident)> = None;
    for item in items {
        let Item::Struct(item) = item else { continue };
        if !attrs::flag(&mut item.attrs, "storage")? {
            continue;
        }
        if found.is_some() {
            return Err(syn::Error::new_spanned(
                &item.ident,
                "a contract has one `#[storage]` struct; this is the second",
            ));
        }
        found = Some((parse_storage(item)?, item.ident.clone()));
    }
    found.ok_or_else(|| {
        syn::Error::new_spanned(
            module,
            "the storage of the contract is missing: a struct marked `#[storage]`",
        )
    })
}

/// The fields, each with its key prefix.
struct ParsedStorage {
    unit: bool,
    fields: Vec<(Ident, Type, u8)>,
}

fn parse_storage(item: &mut ItemStruct) -> syn::Result<ParsedStorage> {
    if !item.generics.params.is_empty() {
        return Err(syn::Error::new_spanned(
            &item.generics,
            "the storage of a contract has no generics",
        ));
    }
    let fields = match &mut item.fields {
        Fields::Unit => {
            return Ok(ParsedStorage {
                unit: true,
                fields: Vec::new(),
            });
        }
        Fields::Unnamed(fields) => {
            return Err(syn::Error::new_spanned(
                fields,
                "the fields of the storage have names",
            ));
        }
        Fields::Named(fields) => &mut fields.named,
    };
    let mut parsed: Vec<(Ident, Type, u8)> = Vec::new();
    for (index, field) in fields.iter_mut().enumerate() {
        let Some(ident) = field.ident.clone() else {
            continue;
        };
        let prefix = match attrs::take(&mut field.attrs, "key") {
            Some(attr) => attr.parse_args::<LitInt>()?.base10_parse::<u8>()?,
            None => u8::try_from(index).map_err(|_| {
                syn::Error::new_spanned(&ident, "a contract has at most 256 fields of storage")
            })?,
        };
        if let Some((other, ..)) = parsed.iter().find(|(.., taken)| *taken == prefix) {
            return Err(syn::Error::new_spanned(
                &ident,
                format!(
                    "`{other}` has the key {prefix} too; without `#[key(n)]` a field's key is its place, from 0 on"
                ),
            ));
        }
        parsed.push((ident, field.ty.clone(), prefix));
    }
    Ok(ParsedStorage {
        unit: false,
        fields: parsed,
    })
}

fn open(storage: &ParsedStorage) -> syn::Result<TokenStream> {
    if storage.unit {
        return Ok(quote!(Self));
    }
    let fields = storage.fields.iter().map(|(ident, ty, prefix)| {
        quote!(#ident: <#ty as ::slackline::storage::Collection>::at(#prefix))
    });
    Ok(quote!(Self { #(#fields),* }))
}

fn is_type(ty: &Type, name: &Ident) -> bool {
    matches!(ty, Type::Path(path) if path.qself.is_none() && path.path.is_ident(name))
}

/// Adds the methods of an `impl` block, with the paths by which they are called.
fn collect(item: &mut ItemImpl, methods: &mut Vec<(Method, TokenStream)>) -> syn::Result<()> {
    let of_interface = attrs::flag(&mut item.attrs, "interface")?;
    let interface = match (&item.trait_, of_interface) {
        (None, false) => None,
        (None, true) => {
            return Err(syn::Error::new_spanned(
                &item.self_ty,
                "`#[interface]` is for `impl Interface for Storage`; of this block the `pub fn` are methods already",
            ));
        }
        (Some(_), false) => return Ok(()),
        (Some((path, _)), true) => Some(path.clone()),
    };
    for item in &mut item.items {
        let ImplItem::Fn(function) = item else {
            continue;
        };
        let public = matches!(function.vis, Visibility::Public(_));
        if interface.is_none() && !public {
            for name in ["view", "payable", "reentrant", "init", "upgrade"] {
                if let Some(attr) = function.attrs.iter().find(|attr| attrs::is(attr, name)) {
                    return Err(syn::Error::new_spanned(
                        attr,
                        "only a `pub fn` is a method of the contract",
                    ));
                }
            }
            continue;
        }
        let method = Method::parse(&mut function.attrs, &function.sig)?;
        let ident = &function.sig.ident;
        let target = match &interface {
            Some(interface) if method.kind == Kind::Method => quote!(<Self as #interface>::#ident),
            Some(_) => {
                return Err(syn::Error::new_spanned(
                    ident,
                    "what runs at deployment or upgrade is not part of an interface",
                ));
            }
            None => quote!(Self::#ident),
        };
        methods.push((method, target));
    }
    Ok(())
}

fn export(storage: &Ident, method: &Method) -> TokenStream {
    let export = format_ident!("{}", method.name);
    let entry = method.entry_ident();
    let doc = format!(
        "Decodes the arguments, calls `{}`, sets the return data.",
        method.ident
    );
    quote! {
        #[doc = #doc]
        #[cfg_attr(target_arch = "wasm32", unsafe(no_mangle))]
        pub extern "C-unwind" fn #export() {
            super::#storage::#entry();
        }
    }
}
