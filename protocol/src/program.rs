//! What a program was built for, read off the start of its file.

use std::fmt;

/// Bytes at the start of a file that are enough to tell.
pub const HEAD: usize = 16 * 1024;

/// Headers of segments that are looked through.
const MAX_SEGMENTS: usize = 256;
/// The kind of segment that names the loader.
const INTERPRETER: u32 = 3;

/// The machine, system and C library that a program needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `x86_64`, `aarch64`, …
    pub arch: String,
    /// `linux` or `macos`.
    pub os: &'static str,
    /// `gnu`, `musl`, or `static` when it brings its own; empty where systems have only one.
    pub libc: &'static str,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.arch, self.os)?;
        if self.libc.is_empty() { Ok(()) } else { write!(f, "-{}", self.libc) }
    }
}

impl Target {
    /// Reads it off the first [`HEAD`] bytes of a file; `None` when that is no program.
    pub fn of(head: &[u8]) -> Option<Self> {
        match head.get(..4)? {
            b"\x7fELF" => elf(head),
            [0xcf, 0xfa, 0xed, 0xfe] => {
                let arch = match Words(head, false).u32(4)? {
                    0x0100_0007 => "x86_64".into(),
                    0x0100_000c => "aarch64".into(),
                    other => format!("cpu{other:#x}"),
                };
                Some(Self { arch, os: "macos", libc: "" })
            }
            _ => None,
        }
    }

    /// Whether a program whose target is written like this runs where `self` does.
    pub fn runs(&self, program: &str) -> bool {
        let system = format!("{}-{}", self.arch, self.os);
        program.strip_prefix(system.as_str()).is_some_and(|libc| match libc.strip_prefix('-') {
            Some(libc) => libc == "static" || libc == self.libc,
            None => libc.is_empty() && self.libc.is_empty(),
        })
    }
}

/// Integers at offsets, none of which is trusted.
struct Words<'a>(&'a [u8], bool);

impl Words<'_> {
    fn u16(&self, at: usize) -> Option<u16> {
        let bytes = self.0.get(at..)?.first_chunk()?;
        Some(if self.1 { u16::from_be_bytes(*bytes) } else { u16::from_le_bytes(*bytes) })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.0.get(at..)?.first_chunk()?;
        Some(if self.1 { u32::from_be_bytes(*bytes) } else { u32::from_le_bytes(*bytes) })
    }

    fn u64(&self, at: usize) -> Option<usize> {
        let bytes = self.0.get(at..)?.first_chunk()?;
        let value = if self.1 { u64::from_be_bytes(*bytes) } else { u64::from_le_bytes(*bytes) };
        usize::try_from(value).ok()
    }
}

/// Offsets as in the ELF-64 object file format; programs of 32 bits are told apart, not read.
fn elf(head: &[u8]) -> Option<Target> {
    let (wide, big) = (*head.get(4)? == 2, *head.get(5)? == 2);
    let words = Words(head, big);
    let kind = words.u16(16)?;
    // Executable, or position-independent.
    if !matches!(kind, 2 | 3) {
        return None;
    }
    let arch = match (words.u16(18)?, wide) {
        (62, true) => "x86_64".into(),
        (183, true) => "aarch64".into(),
        (243, true) => "riscv64".into(),
        (21, true) => if big { "powerpc64" } else { "powerpc64le" }.into(),
        (22, true) => "s390x".into(),
        (3, false) => "i686".into(),
        (40, false) => "arm".into(),
        (other, _) => format!("machine{other}"),
    };
    let libc = match wide {
        true => interpreter(&words)?,
        false => "gnu",
    };
    Some(Target { arch, os: "linux", libc })
}

fn interpreter(words: &Words<'_>) -> Option<&'static str> {
    let (table, size, count) = (words.u64(32)?, words.u16(54)?, words.u16(56)?);
    for n in 0..usize::from(count).min(MAX_SEGMENTS) {
        let header = n.checked_mul(usize::from(size))?.checked_add(table)?;
        if words.u32(header)? != INTERPRETER {
            continue;
        }
        let (start, len) =
            (words.u64(header.checked_add(8)?)?, words.u64(header.checked_add(32)?)?);
        let path = words.0.get(start..start.checked_add(len)?)?;
        let musl = path.windows(4).any(|part| part == b"musl");
        return Some(if musl { "musl" } else { "gnu" });
    }
    Some("static")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The start of an ELF file for this machine, with a loader of this path.
    fn elf(machine: u16, loader: &str) -> Vec<u8> {
        let mut head = vec![0; 64 + 56];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        head[16] = 3;
        head[18..20].copy_from_slice(&machine.to_le_bytes());
        head[32] = 64;
        head[54] = 56;
        head[56] = u8::from(!loader.is_empty());
        head[64] = 3;
        head[72] = 120;
        head[96] = loader.len() as u8;
        head.extend_from_slice(loader.as_bytes());
        head
    }

    #[test]
    fn machine_system_and_library_are_read() {
        let target = |machine, loader| Target::of(&elf(machine, loader)).unwrap().to_string();
        assert_eq!(target(62, "/lib64/ld-linux-x86-64.so.2"), "x86_64-linux-gnu");
        assert_eq!(target(183, "/lib/ld-musl-aarch64.so.1"), "aarch64-linux-musl");
        assert_eq!(target(62, ""), "x86_64-linux-static");
        assert_eq!(target(999, ""), "machine999-linux-static");
        let macho = [0xcf, 0xfa, 0xed, 0xfe, 0x0c, 0, 0, 1];
        assert_eq!(Target::of(&macho).unwrap().to_string(), "aarch64-macos");
        for other in [&b"#!/bin/sh\n"[..], b"", b"\x7fELF", b"MZ\x90\0"] {
            assert_eq!(Target::of(other), None);
        }
    }

    #[test]
    fn a_program_runs_on_its_own_machine_and_library_or_without_one() {
        let here = Target { arch: "x86_64".into(), os: "linux", libc: "gnu" };
        assert!(here.runs("x86_64-linux-gnu") && here.runs("x86_64-linux-static"));
        for other in ["aarch64-linux-gnu", "x86_64-linux-musl", "x86_64-macos", "x86_64-linux", ""]
        {
            assert!(!here.runs(other), "{other}");
        }
        let mac = Target { arch: "aarch64".into(), os: "macos", libc: "" };
        assert!(mac.runs("aarch64-macos") && !mac.runs("aarch64-macos-gnu"));
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Target::of(&bytes);
            for (at, byte) in elf(62, "").iter().take(6).enumerate().take(bytes.len()) {
                bytes[at] = *byte;
            }
            let _ = Target::of(&bytes);
        }
    }
}
