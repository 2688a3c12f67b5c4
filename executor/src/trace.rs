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
use crate::types::Hash;
pub use crate::types::trace::{
    Access, AccessKind, CallEnded, CallTrace, FunctionUse, HostUse, Step,
};
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

/// Records a run.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// The calls that are running, outermost first.
    open: Vec<Open>,
    done: Option<CallTrace>,
}

#[derive(Debug)]
struct Open {
    call: CallTrace,
    profile: Option<Profile>,
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
    /// A call begins.
    pub(crate) fn enter(&mut self, call: &Call<'_>, code: Hash, blocks: Option<Arc<Blocks>>) {
        let profile = blocks.map(|blocks| Profile {
            blocks,
            running: Vec::new(),
            waiting: Vec::new(),
            tail_call: false,
            known: BTreeMap::new(),
        });
        let call = CallTrace {
            contract: call.contract,
            caller: call.caller,
            code,
            method: match call.entry {
                Entry::Method(name) => name.to_owned(),
                Entry::Init => slackline_sandbox::INIT.to_owned(),
                Entry::Upgrade => slackline_sandbox::UPGRADE.to_owned(),
            },
            input: call.input.clone(),
            value: call.value,
            read_only: call.read_only,
            fuel_limit: call.fuel,
            fuel_used: 0,
            // Until it has ended.
            ended: CallEnded::Aborted(String::new()),
            host: BTreeMap::new(),
            steps: Vec::new(),
            functions: Vec::new(),
        };
        self.open.push(Open { call, profile });
    }

    /// The call that began last has ended.
    pub(crate) fn leave(&mut self, called: &Called) {
        let Some(Open { mut call, .. }) = self.open.pop() else {
            return;
        };
        call.fuel_used = called.used;
        call.ended = match &called.ended {
            Ended::Returned(data) => CallEnded::Returned(data.clone()),
            Ended::Reverted(data) => CallEnded::Reverted(data.clone()),
            Ended::Aborted(reason) => CallEnded::Aborted(reason.to_string()),
            Ended::Refused(refusal) => CallEnded::Aborted(refusal.to_string()),
        };
        match self.open.last_mut() {
            Some(Open { call: by, profile }) => {
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
        let Some(Open { call, profile }) = self.open.last_mut() else {
            return;
        };
        let inside = profile.as_ref().and_then(|profile| {
            let function = profile.now(&mut call.functions)?;
            Some(function.host.entry(profile.site()?).or_default())
        });
        for host in std::iter::once(&mut call.host).chain(inside) {
            if !host.contains_key(function) {
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
        let Some(Open { call, profile }) = self.open.last_mut() else {
            return;
        };
        let Some(profile) = profile else { return };
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
                let place = profile.known.entry((caller, site, block.function));
                let place = *place.or_insert(next);
                if place == next {
                    call.functions.push(FunctionUse {
                        caller,
                        site,
                        function: block.function,
                        ..FunctionUse::default()
                    });
                }
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
            *function.blocks.entry(number).or_default() += 1;
        }
    }

    /// Profiled code is about to do its bulk operation `number` with so many units, for which the engine charges.
    pub(crate) fn bulk(&mut self, number: u32, units: u32) {
        let Some(Open { call, profile }) = self.open.last_mut() else {
            return;
        };
        let Some(profile) = profile else { return };
        let Some(bulk) = profile.blocks.bulk.get(number as usize) else {
            return;
        };
        let fuel = u64::from(bulk.per_unit) * u64::from(units);
        if let Some(function) = profile.now(&mut call.functions) {
            *function.bulk.entry(number).or_default() += fuel;
        }
    }

    /// The innermost call has done something.
    pub(crate) fn step(&mut self, step: Step) {
        if let Some(open) = self.open.last_mut() {
            open.call.steps.push(step);
        }
    }

    /// The outermost call, if one was made.
    pub(crate) fn into_trace(self) -> Option<CallTrace> {
        self.done
    }
}
