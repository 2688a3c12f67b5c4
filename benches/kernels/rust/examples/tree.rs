//! Expression trees, evaluated through trait objects.
#![no_std]
extern crate alloc;

use alloc::boxed::Box;
use slackline_kernels::{SEED, kernel, mix, random_next};

trait Expression {
    fn value(&self, x: u64) -> u64;
}

struct Constant(u64);
struct Variable;
struct Sum(Box<dyn Expression>, Box<dyn Expression>);
struct Product(Box<dyn Expression>, Box<dyn Expression>);
struct IfOdd(
    Box<dyn Expression>,
    Box<dyn Expression>,
    Box<dyn Expression>,
);

impl Expression for Constant {
    fn value(&self, _: u64) -> u64 {
        self.0
    }
}

impl Expression for Variable {
    fn value(&self, x: u64) -> u64 {
        x
    }
}

impl Expression for Sum {
    fn value(&self, x: u64) -> u64 {
        self.0.value(x).wrapping_add(self.1.value(x))
    }
}

impl Expression for Product {
    fn value(&self, x: u64) -> u64 {
        self.0.value(x).wrapping_mul(self.1.value(x))
    }
}

impl Expression for IfOdd {
    fn value(&self, x: u64) -> u64 {
        if self.0.value(x) % 2 == 1 {
            self.1.value(x)
        } else {
            self.2.value(x)
        }
    }
}

fn make(random: &mut u64, depth: u32) -> Box<dyn Expression> {
    let n = random_next(random);
    let mut child = || make(random, depth - 1);
    match n % 4 {
        _ if depth == 0 => Box::new(Variable),
        0 => Box::new(Sum(child(), child())),
        1 => Box::new(Product(child(), child())),
        2 => Box::new(IfOdd(child(), child(), child())),
        _ if n % 16 == 3 => Box::new(Constant(n >> 8)),
        _ => Box::new(Sum(child(), Box::new(Constant(n >> 8)))),
    }
}

fn tree() -> u64 {
    let mut random = SEED;
    let expression = make(&mut random, 11);
    (0..300).fold(0, |sum, x| mix(sum, expression.value(x)))
}

kernel!(tree);
