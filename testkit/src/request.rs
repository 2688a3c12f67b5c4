//! Transactions and views, before they are executed.

use crate::done::Done;
use crate::error::{Error, Result};
use crate::{Account, Address, DEPOSIT, FUEL, Kit, inner};
use borsh::{BorshDeserialize, BorshSerialize};
use serde_json::Value;
use slackline_abi::Contract;
use slackline_executor::{Action, PublicKey, SignedTransaction, Transaction, ViewCall};
use std::fmt;

/// What a transaction does.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Transfer(Address),
    Deploy(Vec<u8>),
    Call(Address, String),
}

/// What has been called, for what is said of it afterwards.
#[derive(Clone, Debug)]
pub(crate) struct Called {
    /// The contract, unless it is being deployed.
    pub(crate) contract: Option<Address>,
    /// The method, unless it was a transfer.
    pub(crate) method: Option<String>,
    pub(crate) value: u128,
}

impl fmt::Display for Called {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.contract, &self.method) {
            (Some(contract), Some(method)) => write!(f, "`{method}` of {contract}"),
            (None, Some(_)) => f.write_str("the deployment"),
            (_, None) => f.write_str("the transfer"),
        }
    }
}

/// The input of a method.
#[derive(Clone, Debug, Default)]
pub(crate) enum Input {
    #[default]
    None,
    Borsh(core::result::Result<Vec<u8>, String>),
    Json(Value),
}

impl Input {
    fn borsh(args: &impl BorshSerialize) -> Input {
        Input::Borsh(borsh::to_vec(args).map_err(|error| error.to_string()))
    }

    fn encode(
        self,
        kit: &Kit,
        method: &str,
        abi: impl FnOnce() -> Result<Contract>,
    ) -> Result<Vec<u8>> {
        match self {
            Input::None => Ok(Vec::new()),
            Input::Borsh(bytes) => bytes.map_err(Error::Arguments),
            Input::Json(json) => {
                Ok(abi()?.encode_args_with(method, &json, &|name| kit.named(name))?)
            }
        }
    }
}

/// A transaction, to be [sent](Request::send) or put into a [block](Kit::block).
#[derive(Clone, Debug)]
#[must_use = "nothing happens before `send`"]
pub struct Request<'k> {
    kit: &'k Kit,
    from: Account,
    what: What,
    input: Input,
    value: u128,
    fuel: u64,
    price: u64,
    tip: u64,
    deposit: u128,
}

impl<'k> Request<'k> {
    pub(crate) fn new(kit: &'k Kit, from: &Account, what: What) -> Request<'k> {
        Request {
            kit,
            from: from.clone(),
            what,
            input: Input::None,
            value: 0,
            fuel: FUEL,
            price: 1,
            tip: 0,
            deposit: DEPOSIT,
        }
    }

    /// The arguments: one value, or a tuple of several, of the types that the method has. An [`Account`] is an address.
    pub fn args(mut self, args: &impl BorshSerialize) -> Request<'k> {
        self.input = Input::borsh(args);
        self
    }

    /// The arguments in JSON: an object by their names, or an array. Accounts that the chain began with may be written
    /// by name.
    pub fn json(mut self, args: Value) -> Request<'k> {
        self.input = Input::Json(args);
        self
    }

    /// Attaches value, in the smallest unit of the currency.
    pub fn value(mut self, value: u128) -> Request<'k> {
        self.value = value;
        self
    }

    /// The most fuel that it may use, instead of [`FUEL`].
    pub fn fuel(mut self, limit: u64) -> Request<'k> {
        self.fuel = limit;
        self
    }

    /// The most that a unit of fuel may cost, in the smallest unit of the currency, instead of 1. The block's base price is paid, and the
    /// [tip](Request::tip).
    pub fn price(mut self, price: u64) -> Request<'k> {
        self.price = price;
        self
    }

    /// The most that the proposer gets for a unit of fuel on top of the base price, instead of nothing.
    pub fn tip(mut self, tip: u64) -> Request<'k> {
        self.tip = tip;
        self
    }

    /// The most that may be taken as a deposit for storage, in the smallest unit of the currency, instead of
    /// [`DEPOSIT`].
    pub fn deposit_limit(mut self, limit: u128) -> Request<'k> {
        self.deposit = limit;
        self
    }

    /// Executes it in a block of its own.
    ///
    /// # Errors
    ///
    /// When it was not executed. That it did not succeed is no error but a [result](Done).
    pub fn send(self) -> Result<Done<'k>> {
        let kit = self.kit;
        let mut done = kit.block([self])?;
        // There is one result for each request.
        Ok(done.remove(0))
    }

    pub(crate) fn from(&self) -> &Account {
        &self.from
    }

    pub(crate) fn sender(&self) -> Address {
        self.from.address()
    }

    pub(crate) fn input(mut self, input: Input) -> Request<'k> {
        self.input = input;
        self
    }

    pub(crate) fn called(&self) -> Called {
        let (contract, method) = match &self.what {
            What::Transfer(_) => (None, None),
            What::Deploy(_) => (None, Some("init".to_owned())),
            What::Call(contract, method) => (Some(*contract), Some(method.clone())),
        };
        Called {
            contract,
            method,
            value: self.value,
        }
    }

    pub(crate) fn sign(self, chain_id: u64, nonce: u64) -> Result<SignedTransaction> {
        let value = self.value;
        let action = match self.what {
            What::Transfer(to) => Action::Transfer {
                to: inner(to),
                amount: value,
            },
            What::Deploy(code) => {
                let none = Error::NoAbi(Address([0; 32]));
                let abi = || Contract::from_wasm(&code)?.ok_or(none);
                let input = self.input.encode(self.kit, "init", abi)?;
                Action::Deploy { code, input, value }
            }
            What::Call(contract, method) => {
                let abi = || self.kit.abi(contract);
                let input = self.input.encode(self.kit, &method, abi)?;
                Action::Call {
                    contract: inner(contract),
                    method,
                    input,
                    value,
                }
            }
        };
        let key = self.from.key();
        let transaction = Transaction {
            chain_id,
            sender: PublicKey(key.verifying_key().to_bytes()),
            nonce,
            fuel_limit: self.fuel,
            fuel_price: self.price,
            tip: self.tip,
            deposit_limit: self.deposit,
            action,
        };
        Ok(transaction.sign(key))
    }
}

/// A view, to be [asked for](View::get).
#[derive(Clone, Debug)]
#[must_use = "nothing happens before `get` or `send`"]
pub struct View<'k> {
    kit: &'k Kit,
    contract: Address,
    method: String,
    input: Input,
    caller: Address,
    fuel: u64,
}

impl<'k> View<'k> {
    pub(crate) fn new(kit: &'k Kit, contract: Address, method: String) -> View<'k> {
        View {
            kit,
            contract,
            method,
            input: Input::None,
            caller: Address([0; 32]),
            fuel: FUEL,
        }
    }

    /// The arguments, as in [`Request::args`].
    pub fn args(mut self, args: &impl BorshSerialize) -> View<'k> {
        self.input = Input::borsh(args);
        self
    }

    /// The arguments, as in [`Request::json`].
    pub fn json(mut self, args: Value) -> View<'k> {
        self.input = Input::Json(args);
        self
    }

    pub(crate) fn input(mut self, input: Input) -> View<'k> {
        self.input = input;
        self
    }

    /// Whom the contract sees as its caller, instead of an address of zeros.
    pub fn caller(mut self, caller: impl Into<Address>) -> View<'k> {
        self.caller = caller.into();
        self
    }

    /// The most fuel that it may use, instead of [`FUEL`].
    pub fn fuel(mut self, limit: u64) -> View<'k> {
        self.fuel = limit;
        self
    }

    /// What the method returns.
    ///
    /// # Errors
    ///
    /// When it was not executed, did not succeed, or returned something else.
    pub fn get<T: BorshDeserialize>(self) -> Result<T> {
        self.send()?.returned()
    }

    /// How the call ends, for what is expected to fail or is to be weighed.
    ///
    /// # Errors
    ///
    /// When it was not executed. That it did not succeed is no error but a [result](Done).
    pub fn send(self) -> Result<Done<'k>> {
        let (kit, contract) = (self.kit, self.contract);
        let input = self.input.encode(kit, &self.method, || kit.abi(contract))?;
        let called = Called {
            contract: Some(contract),
            method: Some(self.method.clone()),
            value: 0,
        };
        let call = ViewCall {
            contract: inner(contract),
            caller: inner(self.caller),
            method: self.method,
            input,
            fuel_limit: self.fuel,
        };
        let result = kit.look(&call)?;
        Ok(Done::of_view(kit, called, result))
    }
}
