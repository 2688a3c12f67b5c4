//! What benchmark programs import: enough of WASI preview 1 for them, `bench.start` and `bench.end` as the sightglass suite has
//! them, and `env.clock_ms` of CoreMark.
//!
//! Nothing here depends on time or chance, so that each run of a program does the same: the clock moves on
//! by a second each time it is looked at, and random numbers have a fixed seed. Programs see the directory that
//! they are given as `.`; they can read its files, and what they write stays in memory.

use crate::clock::thread_time;
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wasmtime::{Caller, Extern, ExternType, Linker, Module, Val};

const WASI: &str = "wasi_snapshot_preview1";

/// What one run of a program has done.
#[derive(Debug)]
pub struct Host {
    directory: Option<Arc<Directory>>,
    descriptors: Vec<Descriptor>,
    written: HashMap<PathBuf, Arc<Vec<u8>>>,
    clock_seconds: u64,
    random: u64,
    started: Option<Duration>,
    /// Time between `bench.start` and `bench.end`, if the program has called them.
    pub timed: Option<Duration>,
    /// What it has written to standard output.
    pub stdout: Vec<u8>,
    /// What it has written to standard error.
    pub stderr: Vec<u8>,
    /// What it has exited with, and the fuel that was left then.
    pub exit: Option<(i32, Option<u64>)>,
}

impl Host {
    /// For a program that sees `directory`.
    pub fn new(directory: Option<Arc<Directory>>) -> Host {
        Host {
            descriptors: vec![
                Descriptor::Input,
                Descriptor::Output,
                Descriptor::Error,
                match directory {
                    Some(_) => Descriptor::Directory,
                    None => Descriptor::Closed,
                },
            ],
            directory,
            written: HashMap::new(),
            clock_seconds: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            started: None,
            timed: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
            exit: None,
        }
    }

    fn seconds(&mut self) -> u64 {
        self.clock_seconds += 1;
        self.clock_seconds
    }

    fn descriptor(&mut self, number: u32) -> Result<&mut Descriptor, Errno> {
        match self.descriptors.get_mut(number as usize) {
            None | Some(Descriptor::Closed) => Err(Errno::BADF),
            Some(descriptor) => Ok(descriptor),
        }
    }

    fn file(&mut self, number: u32) -> Result<&mut File, Errno> {
        match self.descriptor(number)? {
            Descriptor::File(file) => Ok(file),
            _ => Err(Errno::BADF),
        }
    }

    fn contents(&self, path: &Path) -> Option<Arc<Vec<u8>>> {
        let written = self.written.get(path).cloned();
        written.or_else(|| self.directory.as_ref()?.read(path))
    }

    fn open(&mut self, path: &Path, create: bool, truncate: bool) -> Result<u32, Errno> {
        let descriptor = if path.as_os_str().is_empty() {
            Descriptor::Directory
        } else {
            let data = match self.contents(path) {
                Some(_) if truncate => Arc::default(),
                Some(data) => data,
                None if create => Arc::default(),
                None => return Err(Errno::NOENT),
            };
            Descriptor::File(File {
                path: path.to_owned(),
                data,
                at: 0,
            })
        };
        self.descriptors.push(descriptor);
        u32::try_from(self.descriptors.len() - 1).map_err(|_| Errno::INVAL)
    }

    fn close(&mut self, number: u32) -> Result<(), Errno> {
        let closed = std::mem::replace(self.descriptor(number)?, Descriptor::Closed);
        if let Descriptor::File(file) = closed {
            self.written.insert(file.path, file.data);
        }
        Ok(())
    }
}

#[derive(Debug)]
enum Descriptor {
    Closed,
    Input,
    Output,
    Error,
    Directory,
    File(File),
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    data: Arc<Vec<u8>>,
    at: u64,
}

impl File {
    fn read(&mut self, into: &mut [u8]) -> usize {
        let rest = usize::try_from(self.at)
            .ok()
            .and_then(|at| self.data.get(at..))
            .unwrap_or_default();
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        self.at += length as u64;
        length
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let at = usize::try_from(self.at).map_err(|_| Errno::INVAL)?;
        let end = at.checked_add(bytes.len()).filter(|&end| end <= MAX_FILE);
        let end = end.ok_or(Errno::FBIG)?;
        let data = Arc::make_mut(&mut self.data);
        data.resize(data.len().max(end), 0);
        data[at..end].copy_from_slice(bytes);
        self.at = end as u64;
        Ok(())
    }
}

/// Largest file that a program may write, in bytes.
const MAX_FILE: usize = 1 << 28;

/// A directory on disk. Its files are read once, so that disks are not measured.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    files: Mutex<HashMap<PathBuf, Option<Arc<Vec<u8>>>>>,
}

impl Directory {
    /// The directory at `path`.
    pub fn new(path: PathBuf) -> Directory {
        Directory {
            path,
            files: Mutex::default(),
        }
    }

    /// The contents of a regular file; `None` if there is none that can be read.
    fn read(&self, path: &Path) -> Option<Arc<Vec<u8>>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let file = files.entry(path.to_owned()).or_insert_with(|| {
            let path = self.path.join(path);
            if !path.is_file() {
                return None;
            }
            std::fs::read(path).ok().map(Arc::new)
        });
        file.clone()
    }
}

/// `path` within the directory, or why it is not.
fn within(path: &[u8]) -> Result<PathBuf, Errno> {
    let path = std::str::from_utf8(path).map_err(|_| Errno::INVAL)?;
    let mut inside = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => inside.push(name),
            _ => return Err(Errno::NOTCAPABLE),
        }
    }
    Ok(inside)
}

/// Why a call failed, in WASI's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Errno(i32);

impl Errno {
    const BADF: Errno = Errno(8);
    const FAULT: Errno = Errno(21);
    const FBIG: Errno = Errno(22);
    const INVAL: Errno = Errno(28);
    const NOENT: Errno = Errno(44);
    const NOSYS: Errno = Errno(52);
    const NOTCAPABLE: Errno = Errno(76);
}

/// A program's memory.
struct Memory<'a>(&'a mut [u8]);

impl Memory<'_> {
    fn slice(&mut self, at: u32, length: u32) -> Result<&mut [u8], Errno> {
        let at = at as usize;
        let end = at + length as usize;
        self.0.get_mut(at..end).ok_or(Errno::FAULT)
    }

    fn u32(&mut self, at: u32) -> Result<u32, Errno> {
        let bytes = self.slice(at, 4)?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |value, &byte| value << 8 | u32::from(byte)))
    }

    fn put(&mut self, at: u32, bytes: &[u8]) -> Result<(), Errno> {
        let length = u32::try_from(bytes.len()).map_err(|_| Errno::FAULT)?;
        self.slice(at, length)?.copy_from_slice(bytes);
        Ok(())
    }

    /// Calls `act` with the place and length of each buffer of a list, until it returns `false`.
    fn buffers(
        &mut self,
        list: u32,
        count: u32,
        mut act: impl FnMut(&mut [u8]) -> Result<bool, Errno>,
    ) -> Result<(), Errno> {
        for index in 0..count {
            let entry = index
                .checked_mul(8)
                .and_then(|offset| list.checked_add(offset))
                .ok_or(Errno::FAULT)?;
            let (at, length) = (self.u32(entry)?, self.u32(entry.saturating_add(4))?);
            if !act(self.slice(at, length)?)? {
                break;
            }
        }
        Ok(())
    }
}

fn answer(
    mut caller: Caller<'_, Host>,
    act: impl FnOnce(&mut Memory<'_>, &mut Host) -> Result<(), Errno>,
) -> i32 {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        return Errno::FAULT.0;
    };
    let (bytes, host) = memory.data_and_store_mut(&mut caller);
    match act(&mut Memory(bytes), host) {
        Ok(()) => 0,
        Err(errno) => errno.0,
    }
}

/// Defines what `module` imports. Functions that are not known here trap when they are called.
///
/// # Errors
///
/// If it imports something other than functions.
pub fn link(linker: &mut Linker<Host>, module: &Module) -> wasmtime::Result<()> {
    marks(linker)?;
    process(linker)?;
    files(linker)?;
    for import in module.imports() {
        if let ("env", "clock_ms", ExternType::Func(ty)) =
            (import.module(), import.name(), import.ty())
        {
            let wide = ty.results().any(|result| result.is_i64());
            linker.func_new("env", "clock_ms", ty, move |mut caller, _, results| {
                let milliseconds = caller.data_mut().seconds() * 1000;
                results.fill(match wide {
                    true => Val::I64(milliseconds as i64),
                    false => Val::I32(milliseconds as i32),
                });
                Ok(())
            })?;
        }
    }
    linker.define_unknown_imports_as_traps(module)
}

fn marks(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap("bench", "start", |mut caller: Caller<'_, Host>| {
        caller.data_mut().started = Some(thread_time());
    })?;
    linker.func_wrap("bench", "end", |mut caller: Caller<'_, Host>| {
        let now = thread_time();
        let host = caller.data_mut();
        if let Some(started) = host.started.take() {
            *host.timed.get_or_insert_default() += now - started;
        }
    })?;
    Ok(())
}

fn process(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    type Call<'a> = Caller<'a, Host>;
    linker.func_wrap(WASI, "proc_exit", |mut caller: Call<'_>, code: i32| {
        let fuel = caller.get_fuel().ok();
        caller.data_mut().exit = Some((code, fuel));
        Err::<(), _>(wasmtime::Error::msg("exit"))
    })?;
    for (name, size) in [
        ("args_get", "args_sizes_get"),
        ("environ_get", "environ_sizes_get"),
    ] {
        linker.func_wrap(WASI, name, |_: Call<'_>, _: u32, _: u32| 0)?;
        linker.func_wrap(WASI, size, |caller: Call<'_>, count: u32, bytes: u32| {
            answer(caller, |memory, _| {
                memory.put(count, &[0; 4])?;
                memory.put(bytes, &[0; 4])
            })
        })?;
    }
    linker.func_wrap(
        WASI,
        "clock_time_get",
        |caller: Call<'_>, _: u32, _: u64, to: u32| {
            answer(caller, |memory, host| {
                memory.put(to, &(host.seconds() * 1_000_000_000).to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(
        WASI,
        "clock_res_get",
        |caller: Call<'_>, _: u32, to: u32| {
            answer(caller, |memory, _| memory.put(to, &1_u64.to_le_bytes()))
        },
    )?;
    linker.func_wrap(
        WASI,
        "random_get",
        |caller: Call<'_>, to: u32, length: u32| {
            answer(caller, |memory, host| {
                for byte in memory.slice(to, length)? {
                    host.random ^= host.random << 13;
                    host.random ^= host.random >> 7;
                    host.random ^= host.random << 17;
                    *byte = host.random as u8;
                }
                Ok(())
            })
        },
    )?;
    linker.func_wrap(WASI, "sched_yield", || 0)?;
    linker.func_wrap(
        WASI,
        "poll_oneoff",
        |_: Call<'_>, _: u32, _: u32, _: u32, _: u32| Errno::NOSYS.0,
    )?;
    Ok(())
}

fn files(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    type Call<'a> = Caller<'a, Host>;
    const CHARACTERS: u8 = 2;
    const DIRECTORY: u8 = 3;
    const REGULAR: u8 = 4;
    const CREATE: u32 = 1;
    const TRUNCATE: u32 = 8;
    let kind = |descriptor: &Descriptor| match descriptor {
        Descriptor::File(_) => REGULAR,
        Descriptor::Directory => DIRECTORY,
        _ => CHARACTERS,
    };
    let status = |kind: u8, size: usize| {
        let mut status = [0_u8; 64];
        status[16] = kind;
        status[24] = 1;
        status[32..40].copy_from_slice(&(size as u64).to_le_bytes());
        status
    };

    linker.func_wrap(WASI, "fd_close", |caller: Call<'_>, fd: u32| {
        answer(caller, |_, host| host.close(fd))
    })?;
    linker.func_wrap(WASI, "fd_sync", |caller: Call<'_>, fd: u32| {
        answer(caller, |_, host| host.descriptor(fd).map(drop))
    })?;
    linker.func_wrap(
        WASI,
        "fd_fdstat_get",
        move |caller: Call<'_>, fd: u32, to: u32| {
            answer(caller, |memory, host| {
                // All rights there are.
                let mut status = [0xff; 24];
                status[..8].copy_from_slice(&[kind(host.descriptor(fd)?), 0, 0, 0, 0, 0, 0, 0]);
                memory.put(to, &status)
            })
        },
    )?;
    linker.func_wrap(
        WASI,
        "fd_fdstat_set_flags",
        |caller: Call<'_>, fd: u32, _: u32| answer(caller, |_, host| host.descriptor(fd).map(drop)),
    )?;
    linker.func_wrap(
        WASI,
        "fd_filestat_get",
        move |caller: Call<'_>, fd: u32, to: u32| {
            answer(caller, |memory, host| {
                let descriptor = host.descriptor(fd)?;
                let size = match descriptor {
                    Descriptor::File(file) => file.data.len(),
                    _ => 0,
                };
                memory.put(to, &status(kind(descriptor), size))
            })
        },
    )?;
    linker.func_wrap(
        WASI,
        "fd_prestat_get",
        |caller: Call<'_>, fd: u32, to: u32| {
            answer(caller, |memory, host| match host.descriptor(fd)? {
                // A directory whose name has one byte.
                Descriptor::Directory if fd == 3 => memory.put(to, &[0, 0, 0, 0, 1, 0, 0, 0]),
                _ => Err(Errno::BADF),
            })
        },
    )?;
    linker.func_wrap(
        WASI,
        "fd_prestat_dir_name",
        |caller: Call<'_>, fd: u32, to: u32, length: u32| {
            answer(caller, |memory, _| {
                if fd != 3 || length < 1 {
                    return Err(Errno::INVAL);
                }
                memory.put(to, b".")
            })
        },
    )?;
    linker.func_wrap(
        WASI,
        "fd_read",
        |caller: Call<'_>, fd: u32, list: u32, count: u32, done: u32| {
            answer(caller, |memory, host| {
                let mut total = 0;
                if !matches!(host.descriptor(fd)?, Descriptor::Input) {
                    let file = host.file(fd)?;
                    memory.buffers(list, count, |buffer| {
                        let length = file.read(buffer);
                        total += length;
                        Ok(length == buffer.len())
                    })?;
                }
                memory.put(done, &(total as u32).to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(
        WASI,
        "fd_write",
        |caller: Call<'_>, fd: u32, list: u32, count: u32, done: u32| {
            answer(caller, |memory, host| {
                host.descriptor(fd)?;
                let mut total = 0;
                memory.buffers(list, count, |buffer| {
                    total += buffer.len();
                    match &mut host.descriptors[fd as usize] {
                        Descriptor::Output => host.stdout.extend_from_slice(buffer),
                        Descriptor::Error => host.stderr.extend_from_slice(buffer),
                        Descriptor::File(file) => file.write(buffer)?,
                        _ => return Err(Errno::BADF),
                    }
                    Ok(true)
                })?;
                memory.put(done, &(total as u32).to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(
        WASI,
        "fd_seek",
        |caller: Call<'_>, fd: u32, by: i64, whence: u32, to: u32| {
            answer(caller, |memory, host| {
                let file = host.file(fd)?;
                let from = match whence {
                    0 => 0,
                    1 => file.at,
                    2 => file.data.len() as u64,
                    _ => return Err(Errno::INVAL),
                };
                file.at = from.checked_add_signed(by).ok_or(Errno::INVAL)?;
                memory.put(to, &file.at.to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(WASI, "fd_tell", |caller: Call<'_>, fd: u32, to: u32| {
        answer(caller, |memory, host| {
            let at = host.file(fd)?.at;
            memory.put(to, &at.to_le_bytes())
        })
    })?;
    linker.func_wrap(
        WASI,
        "path_open",
        |caller: Call<'_>,
         fd: u32,
         _: u32,
         path: u32,
         length: u32,
         how: u32,
         _: u64,
         _: u64,
         _: u32,
         to: u32| {
            answer(caller, |memory, host| {
                let path = within(memory.slice(path, length)?)?;
                if !matches!(host.descriptor(fd)?, Descriptor::Directory) {
                    return Err(Errno::BADF);
                }
                let opened = host.open(&path, how & CREATE != 0, how & TRUNCATE != 0)?;
                memory.put(to, &opened.to_le_bytes())
            })
        },
    )?;
    linker.func_wrap(
        WASI,
        "path_filestat_get",
        move |caller: Call<'_>, fd: u32, _: u32, path: u32, length: u32, to: u32| {
            answer(caller, |memory, host| {
                let path = within(memory.slice(path, length)?)?;
                host.descriptor(fd)?;
                let data = host.contents(&path).ok_or(Errno::NOENT)?;
                memory.put(to, &status(REGULAR, data.len()))
            })
        },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        assert_eq!(within(b"./a/b"), Ok(PathBuf::from("a/b")));
        assert_eq!(within(b"."), Ok(PathBuf::new()));
        for path in ["..", "a/../..", "/etc/passwd"] {
            assert_eq!(within(path.as_bytes()), Err(Errno::NOTCAPABLE), "{path}");
        }
        assert_eq!(within(b"\xff"), Err(Errno::INVAL));
    }

    #[test]
    fn memory_has_bounds() {
        let mut bytes = [0; 16];
        let mut memory = Memory(&mut bytes);
        assert_eq!(memory.put(12, &[1, 2, 0, 0]), Ok(()));
        assert_eq!(memory.u32(12), Ok(0x201));
        assert_eq!(memory.u32(13), Err(Errno::FAULT));
        assert_eq!(memory.slice(u32::MAX, u32::MAX), Err(Errno::FAULT));
        let list = memory.buffers(u32::MAX - 3, 2, |_| Ok(true));
        assert_eq!(list, Err(Errno::FAULT));
    }

    #[test]
    fn files_are_read_and_written() -> Result<(), Errno> {
        let mut host = Host::new(None);
        assert_eq!(host.open(Path::new("new"), false, false), Err(Errno::NOENT));
        let number = host.open(Path::new("new"), true, false)?;
        host.file(number)?.write(b"hello")?;
        host.close(number)?;
        assert_eq!(host.close(number), Err(Errno::BADF));
        let number = host.open(Path::new("new"), false, false)?;
        let mut buffer = [0; 8];
        assert_eq!(host.file(number)?.read(&mut buffer), 5);
        assert_eq!(&buffer[..5], b"hello");
        assert_eq!(host.file(number)?.read(&mut buffer), 0);
        host.file(number)?.at = u64::MAX;
        assert_eq!(host.file(number)?.read(&mut buffer), 0);
        assert_eq!(host.file(number)?.write(b"x"), Err(Errno::FBIG));
        Ok(())
    }
}
