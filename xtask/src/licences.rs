//! The licences of everything that is linked in: of each crate that cargo resolves, one alternative must be in [`ALLOWED`].

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use spdx::{Expression, ParseMode};

use crate::run::{cargo, output};

/// Permissive licences. Another one in a dependency needs a decision, not an entry.
const ALLOWED: [&str; 11] = [
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Decided one by one. CDDL-1.0 binds those who change inferno's own files, and nobody does: it draws the flame graphs of `slackline gas
/// profile`, as it is. MPL-2.0 likewise: attohttpc comes with libp2p's port mapping, which Malachite's features ask for.
const DECIDED: [(&str, &str); 2] = [("inferno", "CDDL-1.0"), ("attohttpc", "MPL-2.0")];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
}

/// Checks the workspace in `dir`.
pub fn check(dir: &Path) -> Result<()> {
    let metadata = output(cargo(dir).args(["metadata", "--format-version=1", "--locked"]))?;
    let metadata: Metadata =
        serde_json::from_str(&metadata).context("reading `cargo metadata`'s answer")?;
    let refused: Vec<String> = metadata
        .packages
        .iter()
        .filter(|package| {
            let license = package.license.as_deref();
            !license.is_some_and(|license| {
                is_allowed(license) || DECIDED.contains(&(package.name.as_str(), license))
            })
        })
        .map(|package| {
            let license = package.license.as_deref().unwrap_or("no licence");
            format!("{} {}: {license}", package.name, package.version)
        })
        .collect();
    if !refused.is_empty() {
        bail!(
            "dependencies under licences that are not allowed (see xtask/src/licences.rs):\n{}",
            refused.join("\n")
        );
    }
    Ok(())
}

/// Whether the SPDX expression can be satisfied with allowed licences.
fn is_allowed(expression: &str) -> bool {
    Expression::parse_mode(expression, ParseMode::LAX).is_ok_and(|expression| {
        expression.evaluate(|requirement| {
            requirement
                .license
                .id()
                .is_some_and(|id| ALLOWED.contains(&id.name))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[test]
    fn one_alternative_must_be_allowed() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-2.0-only OR MIT",
            "Apache-2.0 WITH LLVM-exception",
            "(MIT OR GPL-3.0-only) AND Unicode-3.0",
        ] {
            assert!(is_allowed(good), "{good}");
        }
        for bad in ["GPL-3.0-only", "MIT AND GPL-3.0-only", "no such thing", ""] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }
}
