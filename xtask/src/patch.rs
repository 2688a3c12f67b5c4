//! Unified diffs, applied strictly: every hunk at the very line that it states, every context and removed line
//! equal. The crates are pinned by hash, so a hunk that has moved was not made for them. (diffy parses the diffs; its
//! own `apply` would search for a place where the hunk fits.)

use std::borrow::Cow;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use diffy::patch_set::{FileOperation, ParseOptions, PatchSet};
use diffy::{Line, Patch};

use crate::files;

/// Applies a patch to the files below a directory; paths lose their first component (`-p1`).
pub fn apply_to_dir(dir: &Path, patch: &str) -> Result<()> {
    let mut any = false;
    for file in PatchSet::parse(patch, ParseOptions::unidiff()) {
        let file = file?;
        any = true;
        let operation = file.operation().strip_prefix(1);
        let (name, original) = match &operation {
            FileOperation::Modify { original, modified } if original == modified => {
                let text = files::read_text(&dir.join(&**original))
                    .with_context(|| format!("the patch changes {original}"))?;
                (original, text)
            }
            FileOperation::Create(name) => {
                ensure!(!dir.join(&**name).exists(), "{name} exists already");
                (name, String::new())
            }
            other => bail!("a patch may change or add files, but not {other:?}"),
        };
        let hunks = file.patch().as_text().context("a binary patch")?;
        let patched = apply(&original, hunks).with_context(|| format!("in {name}"))?;
        files::write(&dir.join(&**name), patched)?;
    }
    ensure!(any, "no `---`/`+++` file header in it");
    Ok(())
}

fn apply(original: &str, patch: &Patch<'_, str>) -> Result<String> {
    let lines: Vec<&str> = original.split_inclusive('\n').collect();
    let mut patched = String::with_capacity(original.len());
    let mut at = 0;
    for (number, hunk) in patch.hunks().iter().enumerate() {
        let range = hunk.old_range();
        // A range without lines states the line that it follows.
        let start = range.start().saturating_sub(usize::from(!range.is_empty()));
        let fail =
            |what: Cow<'_, str>| format!("hunk {} (-{range}) does not apply: {what}", number + 1);
        ensure!(
            (at..=lines.len()).contains(&start),
            fail("no such place".into())
        );
        patched.extend(lines[at..start].iter().copied());
        at = start;
        for line in hunk.lines() {
            let (Line::Context(text) | Line::Delete(text) | Line::Insert(text)) = *line;
            if !matches!(line, Line::Insert(_)) {
                let found = lines.get(at);
                ensure!(
                    found == Some(&text),
                    fail(
                        format!(
                            "line {} is\n  {}\nbut the patch expects\n  {}",
                            at + 1,
                            found.map_or("past the end of the file", |line| line.trim_end()),
                            text.trim_end()
                        )
                        .into()
                    )
                );
                at += 1;
            }
            if !matches!(line, Line::Delete(_)) {
                patched.push_str(text);
            }
        }
    }
    patched.extend(lines[at..].iter().copied());
    Ok(patched)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TEXT: &str = "one\ntwo\nthree\nfour\n";

    fn patched(original: &str, patch: &str) -> Result<String> {
        apply(original, &Patch::from_str(patch).unwrap())
    }

    #[test]
    fn exact_hunks_apply() {
        let patch =
            "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n-one\n+1\n two\n@@ -4 +4,2 @@\n four\n+five\n";
        assert_eq!(patched(TEXT, patch).unwrap(), "1\ntwo\nthree\nfour\nfive\n");
        let patch = "--- a/f\n+++ b/f\n@@ -2,0 +3 @@\n+2.5\n";
        assert_eq!(
            patched(TEXT, patch).unwrap(),
            "one\ntwo\n2.5\nthree\nfour\n"
        );
    }

    #[test]
    fn a_moved_hunk_does_not_apply() {
        let patch = "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n two\n-three\n+3\n";
        let error = patched(TEXT, patch).unwrap_err().to_string();
        assert!(error.contains("hunk 1 (-1,2)"), "{error}");
    }

    #[test]
    fn a_hunk_past_the_end_does_not_apply() {
        for at in ["5", "9"] {
            let patch = format!("--- a/f\n+++ b/f\n@@ -{at} +{at} @@\n-five\n+5\n");
            assert!(patched(TEXT, &patch).is_err());
        }
    }

    #[test]
    fn files_are_added_and_never_removed_or_renamed() {
        let dir = tempfile::tempdir().unwrap();
        files::write(&dir.path().join("f"), TEXT).unwrap();
        apply_to_dir(
            dir.path(),
            "--- /dev/null\n+++ b/new/g\n@@ -0,0 +1 @@\n+g\n",
        )
        .unwrap();
        assert_eq!(files::read_text(&dir.path().join("new/g")).unwrap(), "g\n");
        for bad in [
            "--- a/f\n+++ /dev/null\n@@ -1,4 +0,0 @@\n-one\n-two\n-three\n-four\n",
            "--- a/f\n+++ b/g\n@@ -1 +1 @@\n-one\n+1\n",
            "--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+g\n",
            "no patch\n",
        ] {
            assert!(apply_to_dir(dir.path(), bad).is_err(), "{bad}");
        }
    }
}
