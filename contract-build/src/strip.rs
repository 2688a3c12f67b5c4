//! Custom sections that a contract can do without are removed: names, producers, debug information.

/// The custom sections that stay: the node reads them.
pub const KEPT_SECTIONS: [&str; 2] = ["slackline_abi", "slackline_reentrant"];

const MAGIC_AND_VERSION: &[u8] = b"\0asm\x01\0\0\0";

/// The bytes are not a wasm module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a wasm module: {0}")]
pub struct NotWasm(&'static str);

/// A module without the custom sections other than [`KEPT_SECTIONS`]; the rest byte by byte as it was.
///
/// # Errors
///
/// When the bytes do not consist of sections. What is in them is not checked.
pub fn strip(wasm: &[u8]) -> Result<Vec<u8>, NotWasm> {
    let mut rest = wasm
        .strip_prefix(MAGIC_AND_VERSION)
        .ok_or(NotWasm("it does not begin as one of version 1"))?;
    let mut out = MAGIC_AND_VERSION.to_vec();
    while let Some((id, after)) = rest.split_first() {
        let section = rest;
        let mut left = after;
        let mut body = sized(&mut left)?;
        let len = section.len() - left.len();
        if *id != 0 || KEPT_SECTIONS.iter().any(|kept| is_named(&mut body, kept)) {
            out.extend(&section[..len]);
        }
        rest = left;
    }
    Ok(out)
}

fn is_named(body: &mut &[u8], name: &str) -> bool {
    let mut body = *body;
    sized(&mut body).is_ok_and(|its| its == name.as_bytes())
}

/// Takes bytes behind their number off the front.
fn sized<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], NotWasm> {
    let cut = NotWasm("a section is cut off");
    let len = leb128(rest).ok_or(cut)?;
    let (front, behind) = rest.split_at_checked(len as usize).ok_or(cut)?;
    *rest = behind;
    Ok(front)
}

/// Takes a u32 off the front.
fn leb128(rest: &mut &[u8]) -> Option<u32> {
    let mut number = 0;
    for shift in (0..35).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(number).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(sections: &[(u8, &[u8])]) -> Vec<u8> {
        let mut wasm = MAGIC_AND_VERSION.to_vec();
        for (id, contents) in sections {
            wasm.push(*id);
            // Two bytes where one would do.
            wasm.extend([
                0x80 | (contents.len() as u8 & 0x7f),
                (contents.len() >> 7) as u8,
            ]);
            wasm.extend(*contents);
        }
        wasm
    }

    #[test]
    fn only_custom_sections_that_nobody_reads_go() {
        let abi = b"\x0dslackline_abi{}";
        let reentrant = b"\x13slackline_reentrantback\n";
        let code = [7; 300];
        let all = module(&[
            (1, b"\x03abc"),
            (0, b"\x04name\x00"),
            (0, abi),
            (10, &code),
            (0, reentrant),
            (0, b"\x09producers"),
            (0, b"\x0eslackline_abi2"),
        ]);
        let kept = module(&[(1, b"\x03abc"), (0, abi), (10, &code), (0, reentrant)]);
        assert_eq!(strip(&all), Ok(kept.clone()));
        assert_eq!(strip(&kept), Ok(kept));
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let wasm = module(&[(1, b"abc"), (0, b"\x03abcthis")]);
        let whole = [8, 14, wasm.len()];
        for len in 0..=wasm.len() {
            assert_eq!(strip(&wasm[..len]).is_ok(), whole.contains(&len), "{len}");
        }
    }
}
