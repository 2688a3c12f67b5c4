//! Attributes: those of the SDK are taken off the items they stand on, documentation is read.

use syn::{Attribute, Expr, ExprLit, Ident, Lit, Meta};

/// Takes the attribute called `name`, also `slackline::name`, off `attrs`.
pub(crate) fn take(attrs: &mut Vec<Attribute>, name: &str) -> Option<Attribute> {
    let at = attrs.iter().position(|attr| is(attr, name))?;
    Some(attrs.remove(at))
}

/// Takes the attribute off and says whether it was there; it takes no arguments.
pub(crate) fn flag(attrs: &mut Vec<Attribute>, name: &str) -> syn::Result<bool> {
    let Some(attr) = take(attrs, name) else {
        return Ok(false);
    };
    attr.meta.require_path_only()?;
    if let Some(again) = attrs.iter().find(|attr| is(attr, name)) {
        return Err(syn::Error::new_spanned(
            again,
            format!("`#[{name}]` is here twice"),
        ));
    }
    Ok(true)
}

/// Whether an attribute is called `name` or `slackline::name`.
pub(crate) fn is(attr: &Attribute, name: &str) -> bool {
    let segments = &attr.path().segments;
    let last = segments.last().is_some_and(|last| last.ident == name);
    last && (segments.len() == 1
        || segments.len() == 2
            && segments
                .first()
                .is_some_and(|first| first.ident == "slackline"))
}

/// Whether `attrs` derive `name`, whatever path it is given by.
pub(crate) fn derives(attrs: &[Attribute], name: &str) -> bool {
    attrs
        .iter()
        .filter(|attr| attr.path().is_ident("derive"))
        .any(|attr| {
            let mut found = false;
            let _ = attr.parse_nested_meta(|meta| {
                found |= meta
                    .path
                    .segments
                    .last()
                    .is_some_and(|last| last.ident == name);
                Ok(())
            });
            found
        })
}

/// The first paragraph of the documentation, in one line.
pub(crate) fn doc(attrs: &[Attribute]) -> String {
    let mut text = String::new();
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("doc")) {
        let Meta::NameValue(meta) = &attr.meta else {
            continue;
        };
        let Expr::Lit(ExprLit {
            lit: Lit::Str(line),
            ..
        }) = &meta.value
        else {
            continue;
        };
        // One line of `///`, all of them of `/** */`.
        text.push_str(&line.value());
        text.push('\n');
    }
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .skip_while(|line| line.is_empty())
        .take_while(|line| !line.is_empty())
        .collect();
    lines.join(" ")
}

/// A name as the ABI has it: without `r#`.
pub(crate) fn name(ident: &Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").map_or(name.clone(), str::to_owned)
}
