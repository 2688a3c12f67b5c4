//! Custom sections of a wasm module, of which nothing else is looked at.

use crate::AbiError;

const MAGIC_AND_VERSION: &[u8] = b"\0asm\x01\0\0\0";

/// The contents of the first custom section with this name, if there is one.
///
/// # Errors
///
/// [`AbiError::Wasm`] when the bytes do not consist of sections; what is in those with other names is not checked.
pub fn custom_section<'a>(wasm: &'a [u8], name: &str) -> Result<Option<&'a [u8]>, AbiError> {
    let mut rest = wasm
        .strip_prefix(MAGIC_AND_VERSION)
        .ok_or(AbiError::Wasm("it does not begin as one of version 1"))?;
    while let Some((id, after)) = rest.split_first() {
        rest = after;
        let mut section = sized(&mut rest)?;
        if *id == 0 {
            let its_name = sized(&mut section)?;
            if its_name == name.as_bytes() {
                return Ok(Some(section));
            }
        }
    }
    Ok(None)
}

/// Takes bytes behind their number off the front.
fn sized<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], AbiError> {
    let cut = AbiError::Wasm("a section is cut off");
    let Some(len) = leb128(rest) else {
        return Err(cut);
    };
    let Some((front, behind)) = rest.split_at_checked(len as usize) else {
        return Err(cut);
    };
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
    use proptest::prelude::*;

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
    fn the_first_section_of_the_name_is_found() {
        let long = [7; 300];
        let wasm = module(&[
            (1, b"\x03abc"),
            (0, b"\x02axother"),
            (10, &long),
            (0, b"\x03abcthis"),
            (0, b"\x03abcnot this"),
        ]);
        assert_eq!(custom_section(&wasm, "abc").unwrap(), Some(&b"this"[..]));
        assert_eq!(custom_section(&wasm, "abd").unwrap(), None);
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let wasm = module(&[(1, b"abc"), (0, b"\x03abcthis")]);
        let boundaries = [MAGIC_AND_VERSION.len(), MAGIC_AND_VERSION.len() + 6];
        for len in 0..wasm.len() {
            let found = custom_section(&wasm[..len], "abc");
            assert_eq!(found.is_ok(), boundaries.contains(&len), "{len}");
        }
        let beyond = module(&[(0, b"\x09abc")]);
        assert!(custom_section(&beyond, "abc").is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = custom_section(&bytes, "abc");
            bytes.splice(0..0, MAGIC_AND_VERSION.iter().copied());
            let _ = custom_section(&bytes, "abc");
        }
    }
}
