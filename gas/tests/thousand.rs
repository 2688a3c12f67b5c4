//! A suite of 1,000 tests, each with a chain of its own, to see what `slackline gas` adds to the time that they take. Run by
//! `docs/gas/thousand.sh` only: Cargo.toml says `test = false`.

use slackline_testkit::{Kit, Result, contract};

fn one(start: u64) -> Result<()> {
    let kit = Kit::new()?;
    let (alice, bob) = (kit.account("alice"), kit.account("bob"));
    let code = contract!("../contracts/examples/counter")?;
    let deploy = kit.deploy(&alice, &code).args(&start);
    let counter = deploy.send()?.contract()?;
    for by in 1..4u64 {
        let increment = kit.call(&bob, counter, "increment").args(&by);
        let _ = increment.send()?.expect_ok();
    }
    assert_eq!(kit.view(counter, "get").get::<u64>()?, start + 6);
    Ok(())
}

macro_rules! tests {
    ($($name:ident = $number:expr),*) => {
        $(#[test]
        fn $name() -> slackline_testkit::Result<()> {
            super::super::one(super::HUNDRED * 100 + super::super::ten(module_path!()) * 10 + $number)
        })*
    };
}

macro_rules! tens {
    ($($name:ident),*) => {
        $(mod $name {
            tests!(t0 = 0, t1 = 1, t2 = 2, t3 = 3, t4 = 4, t5 = 5, t6 = 6, t7 = 7, t8 = 8, t9 = 9);
        })*
    };
}

macro_rules! hundreds {
    ($($name:ident = $number:expr),*) => {
        $(mod $name {
            const HUNDRED: u64 = $number;
            tens!(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9);
        })*
    };
}

/// The last digit of a module's name.
fn ten(module: &str) -> u64 {
    module
        .bytes()
        .last()
        .map_or(0, |digit| u64::from(digit - b'0'))
}

hundreds!(
    c0 = 0,
    c1 = 1,
    c2 = 2,
    c3 = 3,
    c4 = 4,
    c5 = 5,
    c6 = 6,
    c7 = 7,
    c8 = 8,
    c9 = 9
);
