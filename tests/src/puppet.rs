//! Programs for the example contract `puppet`, which does what its input says; and random ones.

use anyhow::Result;
use borsh::BorshSerialize;
use proptest::prelude::*;
use slackline_executor::Address;

/// As in the contract.
#[derive(Clone, Debug, BorshSerialize)]
#[allow(missing_docs, reason = "see the contract")]
pub enum Step {
    Set {
        key: u8,
        len: u16,
    },
    Delete {
        key: u8,
    },
    Walk {
        descending: bool,
    },
    Transfer {
        to: Address,
        amount: u128,
    },
    Call {
        to: Address,
        value: u128,
        fuel: u64,
        again: bool,
        read_only: bool,
        program: Vec<u8>,
    },
    Deploy {
        value: u128,
        program: Vec<u8>,
    },
    Emit {
        data: u8,
    },
    Revert {
        data: u8,
    },
    Trap,
    Spin,
    Burn {
        rounds: u32,
    },
}

/// Steps, as the contract takes them.
///
/// # Errors
///
/// Never, for steps that fit into memory.
pub fn program(steps: &[Step]) -> Result<Vec<u8>> {
    Ok(borsh::to_vec(steps)?)
}

/// A call of another puppet, with nothing in particular.
///
/// # Errors
///
/// As [`program`].
pub fn call(to: Address, steps: &[Step]) -> Result<Step> {
    Ok(Step::Call {
        to,
        value: 0,
        fuel: 0,
        again: false,
        read_only: false,
        program: program(steps)?,
    })
}

/// A program within what the generator makes; addresses are filled in later.
pub fn steps(depth: u32) -> BoxedStrategy<Vec<Draft>> {
    let leaf = prop_oneof![
        4 => (0..4u8, 0..60u16).prop_map(|(key, len)| Draft::Step(Step::Set { key, len })),
        2 => (0..4u8).prop_map(|key| Draft::Step(Step::Delete { key })),
        2 => any::<bool>().prop_map(|descending| Draft::Step(Step::Walk { descending })),
        3 => (0..5usize, 0..20u128).prop_map(|(to, amount)| Draft::Transfer { to, amount }),
        2 => any::<u8>().prop_map(|data| Draft::Step(Step::Emit { data })),
        1 => any::<u8>().prop_map(|data| Draft::Step(Step::Revert { data })),
        1 => Just(Draft::Step(Step::Trap)),
        1 => Just(Draft::Step(Step::Spin)),
        2 => (0..2_000u32).prop_map(|rounds| Draft::Step(Step::Burn { rounds })),
    ];
    if depth == 0 {
        return prop::collection::vec(leaf, 0..4).boxed();
    }
    let inner = steps(depth - 1);
    let call = (
        0..5usize,
        0..20u128,
        prop::sample::select(vec![0u64, 200_000, 2_000_000, 8_000_000]),
        any::<bool>(),
        prop::bool::weighted(0.15),
        inner.clone(),
    )
        .prop_map(|(to, value, fuel, again, read_only, program)| Draft::Call {
            to,
            value: if read_only { 0 } else { value },
            fuel,
            again,
            read_only,
            program,
        });
    let deploy = (0..20u128, inner).prop_map(|(value, program)| Draft::Deploy { value, program });
    prop::collection::vec(prop_oneof![6 => leaf, 5 => call, 1 => deploy], 0..6).boxed()
}

/// A [`Step`] with places in a list for addresses.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "as in `Step`")]
pub enum Draft {
    Step(Step),
    Transfer {
        to: usize,
        amount: u128,
    },
    Call {
        to: usize,
        value: u128,
        fuel: u64,
        again: bool,
        read_only: bool,
        program: Vec<Draft>,
    },
    Deploy {
        value: u128,
        program: Vec<Draft>,
    },
}

/// Fills in the addresses.
///
/// # Errors
///
/// As [`program`].
pub fn finish(drafts: &[Draft], who: &[Address]) -> Result<Vec<Step>> {
    drafts
        .iter()
        .map(|draft| {
            Ok(match draft.clone() {
                Draft::Step(step) => step,
                Draft::Transfer { to, amount } => Step::Transfer {
                    to: who[to],
                    amount,
                },
                Draft::Call {
                    to,
                    value,
                    fuel,
                    again,
                    read_only,
                    program: inner,
                } => Step::Call {
                    to: who[to],
                    value,
                    fuel,
                    again,
                    read_only,
                    program: program(&finish(&inner, who)?)?,
                },
                Draft::Deploy {
                    value,
                    program: inner,
                } => Step::Deploy {
                    value,
                    program: program(&finish(&inner, who)?)?,
                },
            })
        })
        .collect()
}
