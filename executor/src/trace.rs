//! What an execution did and what each part of it cost, recorded when asked for.
//!
//! ```text
//!   Chain::trace, Chain::trace_view ──▶ Run { trace: Some(Recorder) }
//!                                             ▲ enter, leave: each call      (Vm::call)
//!                                             │ host: each charge            (host functions)
//!                                             │ step: events, storage        (host functions)
//!                                             ▼
//!                                        CallTrace: a tree, whose fuel adds up to the receipt's
//! ```
//!
//! What is not traced pays for a look at an `Option` in each charge of a host function. Tracing changes nothing that an
//! execution computes or pays for.

mod blocks;

pub use blocks::{Block, Blocks, Bulk, End, ProfileError, Start};
pub(crate) use blocks::{PROFILE_MODULE, instrument};

use crate::params::ProtocolParams;
pub use crate::types::trace::{
    Access, AccessKind, CallEnded, CallTrace, FunctionUse, HostUse, Step,
};
use crate::types::{Address, Event, Hash};
use crate::vm::{Call, Called, Ended, Entry};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How closely an execution is traced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Calls between contracts, host functions, events, storage.
    #[default]
    Calls,
    /// The functions of contracts too. Takes many times as long, and other code than a node runs, which uses the same fuel:
    /// see [`Blocks`].
    Functions,
}

impl Blocks {
    /// What a function has used itself, in fuel, without host functions and what it called.
    pub fn wasm_fuel(&self, used: &FunctionUse) -> u64 {
        let of = |(number, count): (&u32, &u64)| {
            let block = self.blocks.get(*number as usize);
            block.map_or(0, Block::fuel) * count
        };
        used.blocks.iter().map(of).sum::<u64>() + used.bulk.values().sum::<u64>()
    }
}

/// The blocks that numbers in [`FunctionUse`] mean, of deployed code.
///
/// # Errors
///
/// A text, if `code` is none that could be deployed.
pub fn blocks(code: &[u8], params: &ProtocolParams) -> Result<Blocks, String> {
    let checked = slackline_sandbox::check(code, &params.limits.code, crate::host::FUNCTIONS);
    let limited = checked.map_err(|error| error.to_string())?.instrument();
    let instrumented = instrument(code, &limited, &params.costs);
    let (_, blocks) = instrumented.map_err(|error| error.to_string())?;
    Ok(blocks)
}

/// What a part of a trace counts besides its bytes and texts, in bytes: no less than it takes in memory, and no less than half of what it takes as JSON.
const CALL_BYTES: usize = 768;
const FUNCTION_BYTES: usize = 320;
const STEP_BYTES: usize = 128;
const HOST_BYTES: usize = 128;
const COUNT_BYTES: usize = 32;

/// What a character of a text counts: JSON can make six of it.
const TEXT_FACTOR: usize = 3;

/// Room for a trace or a footprint, in bytes. What does not fit is left out, and all that comes after it.
#[derive(Clone, Copy, Debug)]
struct Room(usize);

impl Room {
    fn take(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// The keys of contracts' storage that an execution uses. What calls that failed did is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// By contract and its own key.
    pub keys: BTreeMap<(Address, Vec<u8>), KeyUse>,
    /// Whether there are more, for which there was no room.
    pub truncated: bool,
}

/// How an execution uses a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyUse {
    /// It reads what is there, or whether anything is.
    pub read: bool,
    /// It writes or deletes it.
    pub written: bool,
}

/// Records a run.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// The calls that are running, outermost first.
    open: Vec<Open>,
    done: Option<CallTrace>,
    room: Room,
    /// If it is wanted.
    footprint: Option<(Footprint, Room)>,
}

impl Default for Recorder {
    /// For who has asked for it on his own machine: the trace may be as large as it comes to.
    fn default() -> Recorder {
        Recorder::with_room(usize::MAX)
    }
}

#[derive(Debug)]
struct Open {
    call: CallTrace,
    profile: Option<Profile>,
    /// It is not going to be in the trace, nor what happens in it.
    is_left_out: bool,
}

/// Where a call is in its code.
#[derive(Debug)]
struct Profile {
    blocks: Arc<Blocks>,
    /// The functions that are running, outermost first: places in [`CallTrace::functions`].
    running: Vec<u32>,
    /// For each that waits for a callee, how many were running then, and the block that ended with the call.
    waiting: Vec<(usize, u32)>,
    /// Whether the innermost one is being replaced.
    tail_call: bool,
    /// By caller, site and function.
    known: BTreeMap<(Option<u32>, Option<u32>, u32), u32>,
}

impl Profile {
    /// Where what is used now belongs to.
    fn now<'a>(&self, functions: &'a mut [FunctionUse]) -> Option<&'a mut FunctionUse> {
        functions.get_mut(*self.running.last()? as usize)
    }

    /// The block that ended with the call that is being made.
    fn site(&self) -> Option<u32> {
        self.waiting.last().map(|(_, site)| *site)
    }
}

impl Recorder {
    /// The trace may have about `bytes` bytes, in memory; none at all: no trace.
    pub(crate) fn with_room(bytes: usize) -> Recorder {
        Recorder {
            open: Vec::new(),
            done: None,
            room: Room(bytes),
            footprint: None,
        }
    }

    /// The footprint too, of which there may be so much.
    pub(crate) fn and_footprint(mut self, bytes: usize) -> Recorder {
        self.footprint = Some((Footprint::default(), Room(bytes)));
        self
    }

    /// Whether something that takes so much can be recorded of the call that is running. If not, the trace says that there was more.
    fn has_room(&mut self, bytes: usize) -> bool {
        let Some(open) = self.open.last_mut() else {
            return false;
        };
        open.has_room(&mut self.room, bytes)
    }

    /// A call begins.
    pub(crate) fn enter(&mut self, call: &Call<'_>, code: Hash, blocks: Option<Arc<Blocks>>) {
        let profile = blocks.map(|blocks| Profile {
            blocks,
            running: Vec::new(),
            waiting: Vec::new(),
            tail_call: false,
            known: BTreeMap::new(),
        });
        let method = match call.entry {
            Entry::Method(name) => name,
            Entry::Init => slackline_sandbox::INIT,
            Entry::Upgrade => slackline_sandbox::UPGRADE,
        };
        let mut bytes = CALL_BYTES + call.input.len() + TEXT_FACTOR * method.len();
        if profile.is_some() {
            bytes += FUNCTION_BYTES;
        }
        let is_left_out = match self.open.last_mut() {
            Some(by) => !by.has_room(&mut self.room, bytes),
            None => !self.room.take(bytes),
        };
        let call = CallTrace {
            contract: call.contract,
            caller: call.caller,
            code,
            method: match is_left_out {
                true => String::new(),
                false => method.to_owned(),
            },
            input: match is_left_out {
                true => Vec::new(),
                false => call.input.clone(),
            },
            value: call.value,
            read_only: call.read_only,
            fuel_limit: call.fuel,
            fuel_used: 0,
            // Until it has ended.
            ended: CallEnded::Aborted(String::new()),
            host: BTreeMap::new(),
            steps: Vec::new(),
            functions: Vec::new(),
            truncated: false,
        };
        self.open.push(Open {
            call,
            profile,
            is_left_out,
        });
    }

    /// The call that began last has ended.
    pub(crate) fn leave(&mut self, called: &Called) {
        let Some(mut open) = self.open.pop() else {
            return;
        };
        if open.is_left_out {
            return;
        }
        let mut data = |data: &[u8]| match open.has_room(&mut self.room, data.len()) {
            true => data.to_vec(),
            false => Vec::new(),
        };
        let ended = match &called.ended {
            Ended::Returned(returned) => CallEnded::Returned(data(returned)),
            Ended::Reverted(returned) => CallEnded::Reverted(data(returned)),
            Ended::Aborted(reason) => CallEnded::Aborted(reason.to_string()),
            Ended::Refused(refusal) => CallEnded::Aborted(refusal.to_string()),
        };
        let mut call = open.call;
        call.fuel_used = called.used;
        call.ended = ended;
        match self.open.last_mut() {
            Some(Open {
                call: by, profile, ..
            }) => {
                if let Some(profile) = profile
                    && let Some(site) = profile.site()
                    && let Some(function) = profile.now(&mut by.functions)
                {
                    function.calls.push((site, by.steps.len() as u32));
                }
                by.steps.push(Step::Call(Box::new(call)));
            }
            None => self.done = Some(call),
        }
    }

    /// A host function has been charged for: `calls` is 1 with its first charge, else 0.
    pub(crate) fn host(&mut self, function: &str, calls: u64, fuel: u64) {
        let Some(Open {
            call,
            profile,
            is_left_out: false,
        }) = self.open.last_mut()
        else {
            return;
        };
        let inside = profile.as_ref().and_then(|profile| {
            let function = profile.now(&mut call.functions)?;
            Some(function.host.entry(profile.site()?).or_default())
        });
        for host in std::iter::once(&mut call.host).chain(inside) {
            if !host.contains_key(function) {
                if !self.room.take(HOST_BYTES) {
                    call.truncated = true;
                    continue;
                }
                host.insert(function.to_owned(), HostUse::default());
            }
            if let Some(host) = host.get_mut(function) {
                host.calls += calls;
                host.fuel += fuel;
            }
        }
    }

    /// What profiled code must pay before it enters its block `number`, in fuel.
    pub(crate) fn price(&self, number: u32) -> u64 {
        let open = self.open.last().and_then(|open| open.profile.as_ref());
        let block = open.and_then(|profile| profile.blocks.blocks.get(number as usize));
        block.map_or(0, |block| match block.start {
            // The engine charges for entering the function.
            Start::Function => block.fuel() - 1,
            _ => block.fuel(),
        })
    }

    /// Profiled code enters its block `number`, and has paid for it.
    pub(crate) fn block(&mut self, number: u32) {
        let Some(Open {
            call,
            profile: Some(profile),
            is_left_out: false,
        }) = self.open.last_mut()
        else {
            return;
        };
        let Some(block) = profile.blocks.blocks.get(number as usize) else {
            return;
        };
        match block.start {
            Start::Function => {
                if std::mem::take(&mut profile.tail_call) {
                    profile.running.pop();
                }
                let caller = profile.running.last().copied();
                let next = call.functions.len() as u32;
                let site = profile.site();
                let path = (caller, site, block.function);
                let place = match (profile.known.get(&path), caller) {
                    (Some(known), _) => *known,
                    // Without room, what it uses is its caller's. The first one has had its room with the call.
                    (None, Some(caller)) if !self.room.take(FUNCTION_BYTES) => {
                        call.truncated = true;
                        caller
                    }
                    (None, _) => {
                        profile.known.insert(path, next);
                        call.functions.push(FunctionUse {
                            caller,
                            site,
                            function: block.function,
                            ..FunctionUse::default()
                        });
                        next
                    }
                };
                profile.running.push(place);
            }
            Start::Call => {
                profile.tail_call = false;
                let running = profile.waiting.pop().map_or(0, |(running, _)| running);
                profile.running.truncate(running);
            }
            Start::Inside => {}
        }
        match block.end {
            End::Call => profile.waiting.push((profile.running.len(), number)),
            End::TailCall => profile.tail_call = true,
            End::Inside => {}
        }
        if let Some(function) = profile.now(&mut call.functions) {
            match function.blocks.get_mut(&number) {
                Some(count) => *count += 1,
                None if self.room.take(COUNT_BYTES) => {
                    function.blocks.insert(number, 1);
                }
                None => call.truncated = true,
            }
        }
    }

    /// Profiled code is about to do its bulk operation `number` with so many units, for which the engine charges.
    pub(crate) fn bulk(&mut self, number: u32, units: u32) {
        let Some(Open {
            call,
            profile: Some(profile),
            is_left_out: false,
        }) = self.open.last_mut()
        else {
            return;
        };
        let Some(bulk) = profile.blocks.bulk.get(number as usize) else {
            return;
        };
        let fuel = u64::from(bulk.per_unit) * u64::from(units);
        if let Some(function) = profile.now(&mut call.functions) {
            match function.bulk.get_mut(&number) {
                Some(known) => *known += fuel,
                None if self.room.take(COUNT_BYTES) => {
                    function.bulk.insert(number, fuel);
                }
                None => call.truncated = true,
            }
        }
    }

    /// The innermost call has emitted `event`.
    pub(crate) fn event(&mut self, event: &Event) {
        if self.has_room(STEP_BYTES + 32 * event.topics.len() + event.data.len()) {
            self.step(Step::Event(event.clone()));
        }
    }

    /// The innermost call has used its own `key`.
    pub(crate) fn access(&mut self, kind: AccessKind, key: &[u8], value_len: Option<usize>) {
        self.uses(kind, key);
        self.storage(kind, key, value_len);
    }

    /// The innermost call has looked for a key that begins with `prefix`, and there was none.
    pub(crate) fn found_nothing(&mut self, prefix: &[u8]) {
        self.uses(AccessKind::Next, prefix);
        self.storage(AccessKind::Next, &[], None);
    }

    fn uses(&mut self, kind: AccessKind, key: &[u8]) {
        let (Some(open), Some((footprint, room))) = (self.open.last(), &mut self.footprint) else {
            return;
        };
        let at = (open.call.contract, key.to_owned());
        if !footprint.keys.contains_key(&at) && !room.take(STEP_BYTES + key.len()) {
            footprint.truncated = true;
            return;
        }
        let used = footprint.keys.entry(at).or_default();
        match kind {
            AccessKind::Get | AccessKind::Has | AccessKind::Next => used.read = true,
            AccessKind::Set | AccessKind::Delete => used.written = true,
        }
    }

    fn storage(&mut self, kind: AccessKind, key: &[u8], value_len: Option<usize>) {
        if self.has_room(STEP_BYTES + key.len()) {
            self.step(Step::Storage(Access {
                kind,
                key: key.to_owned(),
                value_len: value_len.map(|len| len as u64),
            }));
        }
    }

    /// The innermost call would have made another, which was refused.
    pub(crate) fn refused(&mut self, reason: &str) {
        if self.has_room(STEP_BYTES + TEXT_FACTOR * reason.len()) {
            self.step(Step::Refused(reason.to_owned()));
        }
    }

    fn step(&mut self, step: Step) {
        if let Some(open) = self.open.last_mut() {
            open.call.steps.push(step);
        }
    }

    /// The outermost call, if one was made and there was room for it, and the footprint if it was wanted.
    pub(crate) fn into_trace(self) -> (Option<CallTrace>, Option<Footprint>) {
        (self.done, self.footprint.map(|(footprint, _)| footprint))
    }
}

impl Open {
    fn has_room(&mut self, room: &mut Room, bytes: usize) -> bool {
        if self.is_left_out {
            return false;
        }
        let has_room = room.take(bytes);
        self.call.truncated |= !has_room;
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(recorder: &mut Recorder, input: usize) {
        let call = Call {
            contract: Address([1; 32]),
            caller: Address([2; 32]),
            entry: Entry::Method("method"),
            input: vec![7; input],
            value: 0,
            fuel: 100,
            read_only: false,
        };
        recorder.enter(&call, Hash([3; 32]), None);
    }

    fn leave(recorder: &mut Recorder, returned: usize) {
        recorder.leave(&Called {
            ended: Ended::Returned(vec![8; returned]),
            used: 10,
        });
    }

    #[test]
    fn a_trace_takes_no_more_than_its_room_and_says_what_is_missing() {
        const ROOM: usize = 1 << 20;
        let mut recorder = Recorder::with_room(ROOM).and_footprint(10 * STEP_BYTES);
        enter(&mut recorder, 0);
        recorder.host("call", 1, 1);
        for n in 0..100u8 {
            enter(&mut recorder, 256 << 10);
            recorder.access(AccessKind::Set, &[n % 5], Some(1));
            enter(&mut recorder, 0);
            leave(&mut recorder, 0);
            leave(&mut recorder, 0);
        }
        recorder.host("call", 1, 1);
        recorder.host("revert", 1, 1);
        leave(&mut recorder, ROOM);
        let (call, footprint) = recorder.into_trace();
        let call = call.expect("there was room for the first");
        assert!(call.truncated && call.fuel_used == 10);
        assert_eq!(call.steps.len(), 3);
        assert!(
            call.calls()
                .all(|inner| !inner.truncated && inner.steps.len() == 2)
        );
        assert_eq!(call.host["call"].calls, 2);
        assert_eq!(
            (call.host.len(), call.ended),
            (1, CallEnded::Returned(Vec::new()))
        );
        // It has what the trace has not.
        let footprint = footprint.expect("it was wanted");
        assert_eq!((footprint.keys.len(), footprint.truncated), (5, false));

        let mut recorder = Recorder::with_room(0).and_footprint(2 * STEP_BYTES + 2);
        enter(&mut recorder, 0);
        recorder.found_nothing(&[0]);
        for n in 0..3 {
            recorder.access(AccessKind::Get, &[n], None);
            recorder.access(AccessKind::Delete, &[n], None);
        }
        leave(&mut recorder, 0);
        let (call, footprint) = recorder.into_trace();
        let footprint = footprint.expect("it was wanted");
        assert_eq!((call, footprint.keys.len()), (None, 2));
        assert!(footprint.truncated);
        assert!(
            footprint
                .keys
                .values()
                .all(|used| used.read && used.written)
        );
    }
}
