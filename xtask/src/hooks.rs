//! `.wasmtime/`: the pristine crates of `metering/hooks/pins.toml` with the patches beside it applied.
//!
//! Existing tools do not fit: `patch-crate` and `cargo-patch` link all of cargo as a library (minutes to build, libgit2),
//! verify no hash against the repository, and `patch-crate` wants the workspace to load, which ours cannot before this.
//!
//! Invariants: a directory `.wasmtime/<crate>` appears whole (it is renamed into place) and carries a stamp with a hash of
//! all that it was made of and a hash of what was made. It is left alone, times of files included, while both still
//! hold, so that cargo does not rebuild it. One that was edited by hand is set aside, never deleted.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::registry::{self, Pin};
use crate::{files, patch};

/// Part of every stamp: raise it when the same inputs give another result.
const ALGORITHM: &str = "1";
const STAMP: &str = ".slackline-stamp";
const PINS: &str = "metering/hooks/pins.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pins {
    #[serde(rename = "crate")]
    crates: Vec<Hooked>,
}

#[derive(Deserialize)]
struct Hooked {
    #[serde(flatten)]
    pin: Pin,
    patches: Vec<String>,
}

#[derive(Deserialize)]
struct Stamp {
    inputs: String,
    outputs: String,
}

/// Brings `.wasmtime/` up to date.
pub fn prepare(root: &Path) -> Result<()> {
    let hooks = root.join("metering/hooks");
    let out = root.join(".wasmtime");
    let scratch = out.join("fetch");
    for name in apply(&hooks, &out, |pin| registry::pristine(pin, PINS, &scratch))? {
        eprintln!("    .wasmtime/{name}: pristine crate verified, hooks applied");
    }
    Ok(())
}

/// Applies the pins and patches in `hooks`; returns the names of the crates that were not up to date.
fn apply(
    hooks: &Path,
    out: &Path,
    pristine: impl Fn(&Pin) -> Result<Vec<u8>>,
) -> Result<Vec<String>> {
    let pins: Pins = toml::from_str(&files::read_text(&hooks.join("pins.toml"))?)
        .with_context(|| format!("in {PINS}"))?;
    let mut applied = Vec::new();
    for Hooked { pin, patches } in pins.crates {
        let patches = patches
            .iter()
            .map(|name| Ok((hooks.join(name), files::read_text(&hooks.join(name))?)))
            .collect::<Result<Vec<_>>>()?;
        let inputs = files::sha256_list(
            [ALGORITHM, &pin.name, &pin.version, &pin.sha256]
                .into_iter()
                .chain(patches.iter().map(|(_, text)| text.as_str())),
        );
        let dir = out.join(&pin.name);
        let stamp = read_stamp(&dir);
        let found = match dir.exists() {
            true => Some(files::sha256_tree(&dir, STAMP)?),
            false => None,
        };
        let intact = stamp.as_ref().map(|stamp| &stamp.outputs) == found.as_ref();
        if intact && stamp.is_some_and(|stamp| stamp.inputs == inputs) {
            continue;
        }
        let (made, outputs) = make(&pin, &patches, &inputs, out, &pristine)?;
        if found.as_ref() == Some(&outputs) {
            files::replace(&made.join(STAMP), &dir.join(STAMP))?;
            files::remove(&made)?;
            continue;
        }
        if found.is_some() && !intact {
            let edited = dir.with_added_extension("edited");
            eprintln!(
                "    {} was changed by hand: keeping that as {}",
                dir.display(),
                edited.display()
            );
            files::replace(&dir, &edited)?;
        }
        files::replace(&made, &dir)?;
        applied.push(pin.name);
    }
    Ok(applied)
}

/// Makes the patched crate, with its stamp, under a name that cargo does not know; returns the hash of its contents too.
fn make(
    pin: &Pin,
    patches: &[(PathBuf, String)],
    inputs: &str,
    out: &Path,
    pristine: impl Fn(&Pin) -> Result<Vec<u8>>,
) -> Result<(PathBuf, String)> {
    let made = out.join(format!(".{}.new", pin.name));
    files::remove(&made)?;
    pin.unpack(&pristine(pin)?, &made)?;
    ensure!(
        made.join("Cargo.toml").is_file(),
        "{}.crate has no Cargo.toml",
        pin.label()
    );
    for (path, text) in patches {
        patch::apply_to_dir(&made, text)
            .with_context(|| format!("{} on {} {}", path.display(), pin.name, pin.version))?;
    }
    let outputs = files::sha256_tree(&made, STAMP)?;
    files::write(
        &made.join(STAMP),
        format!("inputs = \"{inputs}\"\noutputs = \"{outputs}\"\n"),
    )?;
    Ok((made, outputs))
}

fn read_stamp(dir: &Path) -> Option<Stamp> {
    toml::from_str(&files::read_text(&dir.join(STAMP)).ok()?).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;
    use std::fs;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tempfile::TempDir;

    use super::*;

    /// A hooks directory with one crate, `x` 1.0.0, and one patch that makes its answer 42.
    struct Fixture {
        dir: TempDir,
        upstream: Vec<u8>,
        fetches: Cell<u32>,
    }

    const PATCH: &str =
        "--- a/src/lib.rs\n+++ b/src/lib.rs\n@@ -1,2 +1,2 @@\n // The answer.\n-41\n+42\n";

    fn crate_file(lib: &str) -> Vec<u8> {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, text) in [("Cargo.toml", "[package]\n"), ("src/lib.rs", lib)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive
                .append_data(&mut header, format!("x-1.0.0/{name}"), text.as_bytes())
                .unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap()
    }

    impl Fixture {
        fn new() -> Self {
            let fixture = Self {
                dir: tempfile::tempdir().unwrap(),
                upstream: crate_file("// The answer.\n41\n"),
                fetches: Cell::new(0),
            };
            let sha256 = files::sha256(&fixture.upstream);
            fixture.write(
                "hooks/pins.toml",
                &format!(
                    "[[crate]]\nname = \"x\"\nversion = \"1.0.0\"\nsha256 = \"{sha256}\"\npatches = [\"x.patch\"]\n"
                ),
            );
            fixture.write("hooks/x.patch", PATCH);
            fixture
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            files::write(&self.path(name), text).unwrap();
        }

        fn lib(&self) -> String {
            files::read_text(&self.path("out/x/src/lib.rs")).unwrap()
        }

        fn apply(&self) -> Result<Vec<String>> {
            apply(&self.path("hooks"), &self.path("out"), |pin| {
                self.fetches.set(self.fetches.get() + 1);
                pin.verify(&self.upstream, "x.crate", PINS)?;
                Ok(self.upstream.clone())
            })
        }

        fn error(&self) -> String {
            format!("{:#}", self.apply().unwrap_err())
        }
    }

    #[test]
    fn the_second_run_does_nothing() {
        let fixture = Fixture::new();
        assert_eq!(fixture.apply().unwrap(), ["x"]);
        assert_eq!(fixture.lib(), "// The answer.\n42\n");
        let time = |name| {
            fs::metadata(fixture.path(name))
                .unwrap()
                .modified()
                .unwrap()
        };
        let before = time("out/x/src/lib.rs");
        assert!(fixture.apply().unwrap().is_empty());
        assert_eq!(fixture.fetches.get(), 1);
        // Another way to write the same patch: made again, found equal, left alone.
        fixture.write("hooks/x.patch", &format!("Why.\n\n{PATCH}"));
        assert!(fixture.apply().unwrap().is_empty());
        assert_eq!(fixture.fetches.get(), 2);
        assert_eq!(time("out/x/src/lib.rs"), before);
    }

    #[test]
    fn a_changed_patch_is_applied_to_the_pristine_crate() {
        let fixture = Fixture::new();
        fixture.apply().unwrap();
        fixture.write("hooks/x.patch", &PATCH.replace("+42", "+43"));
        assert_eq!(fixture.apply().unwrap(), ["x"]);
        assert_eq!(fixture.lib(), "// The answer.\n43\n");
    }

    #[test]
    fn a_changed_upstream_file_is_an_error() {
        let mut fixture = Fixture::new();
        let (pinned, found) = (fixture.upstream.clone(), crate_file("// The answer.\n40\n"));
        fixture.upstream = found.clone();
        let error = fixture.error();
        for part in [
            "crate x 1.0.0",
            PINS,
            &files::sha256(pinned),
            &files::sha256(found),
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!fixture.path("out/x").exists());
    }

    #[test]
    fn a_hunk_that_does_not_fit_is_an_error_and_changes_nothing() {
        let fixture = Fixture::new();
        fixture.apply().unwrap();
        fixture.write("hooks/x.patch", &PATCH.replace("-41", "-40"));
        let error = fixture.error();
        for part in ["x.patch", "src/lib.rs", "hunk 1", "line 2"] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(fixture.lib(), "// The answer.\n42\n");
    }

    #[test]
    fn edits_by_hand_are_undone_and_kept() {
        let fixture = Fixture::new();
        fixture.apply().unwrap();
        fixture.write("out/x/src/lib.rs", "mine\n");
        assert_eq!(fixture.apply().unwrap(), ["x"]);
        assert_eq!(fixture.lib(), "// The answer.\n42\n");
        let kept = fixture.path("out/x.edited/src/lib.rs");
        assert_eq!(files::read_text(&kept).unwrap(), "mine\n");
    }
}
