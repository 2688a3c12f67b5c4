//! One method of a contract, as its signature and attributes have it: for `#[contract]` and `#[interface]`.

use crate::attrs;
use crate::data::schema_of;
use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{
    Attribute, FnArg, Ident, Pat, ReceiverKind, ReturnType, Safety, Signature, Type, parse_quote,
};

const MAX_ARGS: usize = 12;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Method,
    Init,
    Upgrade,
}

pub(crate) struct Method {
    /// The function.
    pub(crate) ident: Ident,
    /// The export.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) args: Vec<(Ident, Type)>,
    pub(crate) output: Type,
    pub(crate) view: bool,
    pub(crate) payable: bool,
    pub(crate) reentrant: bool,
    pub(crate) docs: Vec<Attribute>,
}

impl Method {
    /// Takes the attributes of the SDK off `attrs` and refuses what cannot be a method.
    pub(crate) fn parse(attrs: &mut Vec<Attribute>, signature: &Signature) -> syn::Result<Self> {
        let view = attrs::flag(attrs, "view")?;
        let payable = attrs::flag(attrs, "payable")?;
        let reentrant = attrs::flag(attrs, "reentrant")?;
        let init = attrs::flag(attrs, "init")?;
        let upgrade = attrs::flag(attrs, "upgrade")?;
        let ident = &signature.ident;
        let error = |at: &dyn ToTokens, text: &str| Err(syn::Error::new_spanned(at, text));

        let kind = match (init, upgrade) {
            (false, false) => Kind::Method,
            (true, false) => Kind::Init,
            (false, true) => Kind::Upgrade,
            (true, true) => {
                return error(
                    ident,
                    "either `#[init]` or `#[upgrade]`: they run at different times",
                );
            }
        };
        if kind != Kind::Method && (view || reentrant) {
            return error(
                ident,
                "what runs at deployment or upgrade is neither `#[view]` nor `#[reentrant]`: it cannot be called",
            );
        }
        if view && payable {
            return error(
                ident,
                "a `#[view]` changes nothing, so it cannot take money: not `#[payable]`",
            );
        }
        if kind == Kind::Upgrade && payable {
            return error(ident, "an upgrade has no value attached: not `#[payable]`");
        }
        let name = attrs::name(ident);
        if kind == Kind::Method && matches!(name.as_str(), "init" | "upgrade") {
            return error(
                ident,
                &format!(
                    "`{name}` runs once and cannot be called: mark it `#[{name}]` or name it otherwise"
                ),
            );
        }
        let name = match kind {
            Kind::Method => name,
            Kind::Init => "init".to_owned(),
            Kind::Upgrade => "upgrade".to_owned(),
        };
        check_name(ident, &name)?;

        if let Some(asyncness) = &signature.asyncness {
            return error(asyncness, "a call has nothing to wait for: not `async`");
        }
        if !matches!(signature.safety, Safety::Default) {
            return error(&signature.safety, "anybody may call a method: not `unsafe`");
        }
        if !signature.generics.params.is_empty() {
            return error(
                &signature.generics,
                "a method has no generics: its callers send bytes of known types",
            );
        }
        let mutable = match signature.receiver().map(|receiver| &receiver.kind) {
            Some(ReceiverKind::Reference(_, None, mutable)) => mutable.is_some(),
            _ => {
                return error(
                    ident,
                    "a method takes `&mut self`, or `&self` when it is a `#[view]`; functions without it are not `pub`",
                );
            }
        };
        if view && mutable {
            return error(&signature.inputs[0], "a `#[view]` changes nothing: `&self`");
        }
        if !view && !mutable {
            return error(
                &signature.inputs[0],
                "a method with `&self` is marked `#[view]`; one that changes anything takes `&mut self`",
            );
        }
        let args = signature
            .inputs
            .iter()
            .skip(1)
            .map(argument)
            .collect::<syn::Result<Vec<_>>>()?;
        if let Some((ident, _)) = args.get(MAX_ARGS) {
            return error(
                ident,
                &format!("a method has at most {MAX_ARGS} arguments: make a struct of some"),
            );
        }
        let output = match &signature.output {
            ReturnType::Default => parse_quote!(()),
            ReturnType::Type(_, ty) => {
                if let Some(reference) = reference_in(ty) {
                    return error(
                        reference,
                        "a result is sent away, so it is owned: no reference",
                    );
                }
                Type::clone(ty)
            }
        };
        let docs = attrs
            .iter()
            .filter(|attr| attr.path().is_ident("doc"))
            .cloned()
            .collect();
        Ok(Self {
            ident: ident.clone(),
            name,
            kind,
            args,
            output,
            view,
            payable,
            reentrant,
            docs,
        })
    }

    /// An expression of type `slackline::abi::Method`.
    pub(crate) fn describe(&self) -> TokenStream {
        let Self {
            name,
            view,
            payable,
            reentrant,
            output,
            ..
        } = self;
        let doc = attrs::doc(&self.docs);
        let names = self.args.iter().map(|(ident, _)| attrs::name(ident));
        let schemas = self.args.iter().map(|(_, ty)| schema_of(ty));
        quote_spanned! {output.span()=>
            ::slackline::abi::Method {
                name: #name,
                doc: #doc,
                args: &[#(::slackline::abi::Field { name: #names, schema: #schemas }),*],
                result: <#output as ::slackline::__private::Returns>::RESULT,
                error: <#output as ::slackline::__private::Returns>::ERROR,
                view: #view,
                payable: #payable,
                reentrant: #reentrant,
            }
        }
    }

    /// The function that the export calls: decodes, calls `target` (the path of the method), and finishes.
    pub(crate) fn entry(&self, target: &TokenStream) -> TokenStream {
        let refuse_value = (!self.payable && self.kind != Kind::Upgrade)
            .then(|| quote!(::slackline::__private::refuse_value();));
        let (names, types): (Vec<_>, Vec<_>) = self.args.iter().map(|(i, t)| (i, t)).unzip();
        let output = &self.output;
        let entry = self.entry_ident();
        let finish = quote_spanned! {output.span()=>
            <#output as ::slackline::__private::Returns>::finish(result);
        };
        // The contract's own errors are among what a user sees of a wrong type: the names are what was written.
        quote! {
            #[doc(hidden)]
            #[allow(dead_code)]
            pub fn #entry() {
                #refuse_value
                let (#(#names,)*): (#(#types,)*) = ::slackline::__private::input();
                let mut contract = <Self as ::slackline::Storage>::open();
                let result = #target(&mut contract, #(#names),*);
                #finish
            }
        }
    }

    pub(crate) fn entry_ident(&self) -> Ident {
        quote::format_ident!("__entry_{}", self.name)
    }
}

fn argument(arg: &FnArg) -> syn::Result<(Ident, Type)> {
    let FnArg::Typed(arg) = arg else {
        return Err(syn::Error::new_spanned(arg, "`self` comes first"));
    };
    let ident = match &*arg.pat {
        Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => pat.ident.clone(),
        pat => {
            return Err(syn::Error::new_spanned(
                pat,
                "an argument has a name, which callers see",
            ));
        }
    };
    if let Some(reference) = reference_in(&arg.ty) {
        return Err(syn::Error::new_spanned(
            reference,
            "an argument is decoded from the input, so it is owned: `String` for `&str`, `Vec<u8>` for `&[u8]`",
        ));
    }
    Ok((ident, Type::clone(&arg.ty)))
}

fn reference_in(ty: &Type) -> Option<&Type> {
    matches!(ty, Type::Reference(_)).then_some(ty)
}

/// The node calls exports named `[a-z][a-z0-9_]{0,63}`; some are taken in every module.
fn check_name(ident: &Ident, name: &str) -> syn::Result<()> {
    let error = |text: &str| Err(syn::Error::new_spanned(ident, text));
    if name.len() > 64 {
        return error("the name of a method has at most 64 characters");
    }
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        return error("the name of a method begins with a lower-case letter");
    }
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !name.chars().all(ok) {
        return error("the name of a method consists of lower-case letters, digits and `_`");
    }
    // The export of the memory, and functions that compiled code calls by these names.
    let reserved = [
        "memory", "memcpy", "memmove", "memset", "memcmp", "bcmp", "strlen",
    ];
    // Functions of the client beside those that call methods.
    if reserved.contains(&name) || matches!(name, "new" | "instantiate") {
        return error("this name is reserved");
    }
    Ok(())
}
