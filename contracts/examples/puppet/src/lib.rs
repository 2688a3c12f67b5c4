//! A contract that does what its caller tells it to, step by step: for tests that need contracts which do anything, to any
//! depth.
//!
//! ```text
//!   run(program) ──▶ Step, Step, … ──Call──▶ another puppet's run(program) …
//!        ◀── what each step saw: one report a step
//! ```

#![no_std]
#![forbid(unsafe_code)]

/// A contract that follows a program.
#[slackline::contract]
mod puppet {
    use slackline::borsh;
    use slackline::prelude::*;
    use slackline::{
        Call, balance, caller, code_hash, deploy, revert, self_address, storage, value,
    };

    /// Keys are the program's.
    #[storage]
    pub struct Puppet;

    /// What to do next. Programs within programs are encoded, as types that contain themselves have no description.
    #[derive(Data)]
    pub enum Step {
        /// Stores `len` bytes under a key of one byte.
        Set { key: u8, len: u16 },
        /// Deletes what is under a key.
        Delete { key: u8 },
        /// Reports the keys, in order.
        Walk { descending: bool },
        /// Sends currency.
        Transfer { to: Address, amount: u128 },
        /// Calls another puppet.
        Call {
            to: Address,
            value: u128,
            /// 0 for as much as may be given.
            fuel: u64,
            again: bool,
            read_only: bool,
            program: Vec<u8>,
        },
        /// Makes another puppet with this one's code.
        Deploy { value: u128, program: Vec<u8> },
        /// Emits an event.
        Emit { data: u8 },
        /// Ends this call, undone.
        Revert { data: u8 },
        /// Ends this call, at the cost of all its fuel.
        Trap,
        /// Never ends.
        Spin,
        /// Computes.
        Burn { rounds: u32 },
    }

    impl Puppet {
        /// Follows a program at its birth.
        #[init]
        #[payable]
        pub fn init(&mut self, program: Vec<u8>) {
            follow(&program);
        }

        /// Follows a program.
        #[payable]
        pub fn run(&mut self, program: Vec<u8>) -> Vec<u8> {
            follow(&program)
        }

        /// Follows a program, even while another call of this contract is running.
        #[payable]
        #[reentrant]
        pub fn again(&mut self, program: Vec<u8>) -> Vec<u8> {
            follow(&program)
        }
    }

    fn follow(program: &[u8]) -> Vec<u8> {
        let Ok(steps) = borsh::from_slice::<Vec<Step>>(program) else {
            revert("not a program")
        };
        let mut report = Vec::new();
        report.extend_from_slice(&caller().0[..2]);
        report.extend_from_slice(&value().to_le_bytes());
        for step in steps {
            perform(step, &mut report);
            report.extend_from_slice(&balance(self_address()).to_le_bytes());
        }
        report
    }

    fn perform(step: Step, report: &mut Vec<u8>) {
        match step {
            Step::Set { key, len } => storage::set_raw(&[key], &vec![key; usize::from(len)]),
            Step::Delete { key } => storage::delete_raw(&[key]),
            Step::Walk { descending } => {
                let next = if descending {
                    storage::previous_raw
                } else {
                    storage::next_raw
                };
                let mut from: Option<Vec<u8>> = None;
                while let Some(key) = next(&[], from.as_deref()) {
                    report.extend_from_slice(&key);
                    from = Some(key);
                }
            }
            Step::Transfer { to, amount } => {
                report.push(slackline::transfer(to, amount).is_ok().into());
            }
            Step::Call {
                to,
                value,
                fuel,
                again,
                read_only,
                program,
            } => {
                let mut call = Call::new(to).value(value);
                if fuel > 0 {
                    call = call.fuel(fuel);
                }
                let method = if again { "again" } else { "run" };
                tell(report, call.call(read_only, method, &program));
            }
            Step::Deploy { value, program } => {
                let Some(code) = code_hash(self_address()) else {
                    revert("no code")
                };
                let made = deploy(&code, &program, value, None);
                tell(report, made.map(|address| address.0.to_vec()));
            }
            Step::Emit { data } => slackline::event::emit_raw(&[], &[data]),
            Step::Revert { data } => revert([data]),
            #[cfg(target_arch = "wasm32")]
            Step::Trap => core::arch::wasm32::unreachable(),
            #[cfg(not(target_arch = "wasm32"))]
            Step::Trap => panic!("trap"),
            Step::Spin => loop {
                core::hint::black_box(());
            },
            Step::Burn { rounds } => {
                for round in 0..rounds {
                    core::hint::black_box(round);
                }
            }
        }
    }

    fn tell(report: &mut Vec<u8>, result: Result<Vec<u8>, CallError>) {
        let (status, data) = match result {
            Ok(data) => (0, data),
            Err(CallError::Reverted(data)) => (1, data),
            Err(CallError::Aborted) => (2, Vec::new()),
            Err(CallError::NoContract) => (3, Vec::new()),
            Err(CallError::NoMethod) => (4, Vec::new()),
            Err(CallError::Reentrancy) => (5, Vec::new()),
            Err(CallError::TooDeep) => (6, Vec::new()),
            Err(CallError::InsufficientBalance) => (7, Vec::new()),
            Err(_) => (8, Vec::new()),
        };
        report.push(status);
        report.extend_from_slice(&data);
    }
}
