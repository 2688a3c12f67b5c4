//! A market of two tokens: limit orders, matched by price and then by time.
//!
//! ```text
//!   deposit(asset, amount) ── transfer_from ──▶ balances[owner, asset]  ── transfer ──▶ withdraw(asset, amount)
//!                                                 │ ▲
//!   place(side, price, lots, max_fills) ──────────┘ └─── what is bought; what is left of a cancelled order
//!     │
//!     ├─ 1. matches what rests on the other side, best price first, the oldest first among equals,
//!     │     at the price of what rests, `max_fills` orders at most ──▶ Filled, each
//!     └─ 2. what is left of it rests in the book ────────────────────▶ Placed
//!
//!   book, an ordered map:   side  rank                number         value
//!                           sell  price               of the order   owner, lots
//!                           buy   2^64 − 1 − price    of the order   owner, lots
//!                                 └ the best comes first on either side, then the oldest: the next to match is the first key
//! ```
//!
//! **No rounding**: amounts of the base token are counted in lots, whose size the market has fixed, and a price is what a lot costs
//! in the smallest unit of the quote token. So each fill is `price · lots` exactly.
//!
//! **Bounded work**: a fill costs two searches and a few reads and writes, and nobody has to pay for more of them than `max_fills`, or
//! than 64. An order that would match on when that many are done does not rest, as buyers would then bid more than sellers
//! ask; what is left of it is not done and the caller may place it again. With `max_fills` 0 an order only ever rests.
//!
//! **Money**: an order that rests is paid for when it is placed, out of the balance that its owner has deposited; fills add to
//! balances only. So matching calls no other contract, and no maker can make it fail.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use slackline::prelude::*;

/// What the market asks of a token: some methods of the example `token`.
#[slackline::interface]
pub trait Fungible {
    /// Passes on tokens of the caller's.
    fn transfer(&mut self, to: Address, amount: u128) -> Result<(), TokenError>;

    /// Passes on tokens that `from` has allowed the caller.
    fn transfer_from(&mut self, from: Address, to: Address, amount: u128)
    -> Result<(), TokenError>;
}

/// The errors of a token, as in the example `token`.
#[derive(Error, Debug, PartialEq)]
pub enum TokenError {
    /// Only the owner makes tokens.
    NotOwner,
    /// There are fewer tokens than that.
    InsufficientBalance,
    /// The owner has not allowed as much.
    InsufficientAllowance,
    /// There cannot be so many tokens.
    Overflow,
}

/// A market of two tokens: limit orders, matched by price and then by time.
#[slackline::contract]
pub mod orderbook {
    use super::FungibleClient;
    use core::ops::Bound;
    use slackline::prelude::*;
    use slackline::storage::Iter;
    use slackline::{caller, self_address};

    /// The most orders that one call matches.
    pub const MAX_FILLS: u32 = 64;
    /// The most that one call lists.
    pub const MAX_LISTED: u32 = 50;

    /// What is stored.
    #[storage]
    pub struct Orderbook {
        market: Value<Market>,
        /// How many orders there ever were: the number of the next.
        numbers: Value<u64>,
        /// What rests, by side, rank and number.
        book: OrderedMap<(bool, u64, u64), Order>,
        /// What was deposited, bought or given back, and is not in the book.
        balances: Map<(Address, Asset), u128>,
    }

    /// What is traded.
    #[derive(Data, Clone, Debug, PartialEq)]
    pub struct Market {
        /// The token that is bought and sold.
        pub base: Address,
        /// The token that it is paid in.
        pub quote: Address,
        /// How much of the base token is one lot.
        pub lot: u128,
    }

    /// One of the two tokens.
    #[derive(Data, Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Asset {
        /// What is bought and sold.
        Base,
        /// What it is paid in.
        Quote,
    }

    /// What an order does.
    #[derive(Data, Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Side {
        /// It asks.
        Sell,
        /// It bids.
        Buy,
    }

    /// Where an order rests.
    #[derive(Data, Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OrderId {
        /// What it does.
        pub side: Side,
        /// What a lot costs.
        pub price: u64,
        /// Later ones have greater ones.
        pub number: u64,
    }

    /// What rests.
    #[derive(Data, Clone, Debug, PartialEq)]
    pub struct Order {
        /// Who has placed it.
        pub owner: Address,
        /// What is left of it.
        pub lots: u64,
    }

    /// An order and where it rests.
    #[derive(Data, Clone, Debug, PartialEq)]
    pub struct Entry {
        /// Where.
        pub id: OrderId,
        /// The order.
        pub order: Order,
    }

    /// What has become of an order.
    #[derive(Data, Clone, Debug, PartialEq)]
    pub struct Outcome {
        /// What was bought or sold at once.
        pub filled: u64,
        /// What that cost, or brought, in the quote token.
        pub quote: u128,
        /// Where the rest of it rests. Without this, what is not filled is not done.
        pub resting: Option<OrderId>,
    }

    /// Somebody put tokens in.
    #[derive(Event, Debug, PartialEq)]
    pub struct Deposited {
        /// Who.
        #[topic]
        pub owner: Address,
        /// Which.
        pub asset: Asset,
        /// How many.
        pub amount: u128,
    }

    /// Somebody took tokens out.
    #[derive(Event, Debug, PartialEq)]
    pub struct Withdrawn {
        /// Who.
        #[topic]
        pub owner: Address,
        /// Which.
        pub asset: Asset,
        /// How many.
        pub amount: u128,
    }

    /// An order rests.
    #[derive(Event, Debug, PartialEq)]
    pub struct Placed {
        /// Where.
        #[topic]
        pub id: OrderId,
        /// Whose it is.
        #[topic]
        pub owner: Address,
        /// How much of it.
        pub lots: u64,
    }

    /// An order that rested was matched.
    #[derive(Event, Debug, PartialEq)]
    pub struct Filled {
        /// Where it rests, or did.
        #[topic]
        pub id: OrderId,
        /// Whose it is.
        #[topic]
        pub maker: Address,
        /// Who has done the opposite.
        #[topic]
        pub taker: Address,
        /// How much of it was matched.
        pub lots: u64,
    }

    /// An order rests no more.
    #[derive(Event, Debug, PartialEq)]
    pub struct Cancelled {
        /// Where it was.
        #[topic]
        pub id: OrderId,
        /// Whose it was.
        #[topic]
        pub owner: Address,
        /// How much was left of it.
        pub lots: u64,
    }

    /// Why a call has failed.
    #[derive(Error, Debug, PartialEq)]
    pub enum Error {
        /// The two tokens are different ones, and a lot is not nothing.
        BadMarket,
        /// An order has a price and is about some lots.
        Zero,
        /// There is not so much of anything.
        Overflow,
        /// The caller has not deposited as much.
        InsufficientBalance,
        /// The order would match more orders than it may, so that nothing of it can be done.
        WouldMatch,
        /// No such order rests.
        NoSuchOrder,
        /// It is somebody else's.
        NotOwner,
        /// A token refused.
        #[from]
        Token(CallError),
    }

    type Result<T> = core::result::Result<T, Error>;

    impl Orderbook {
        /// A market of lots of `lot` of the token `base`, which are paid in the token `quote`.
        #[init]
        pub fn init(&mut self, base: Address, quote: Address, lot: u128) -> Result<()> {
            if base == quote || lot == 0 {
                return Err(Error::BadMarket);
            }
            self.market.set(&Market { base, quote, lot });
            Ok(())
        }

        /// Takes tokens that the caller has allowed the market to take.
        pub fn deposit(&mut self, asset: Asset, amount: u128) -> Result<()> {
            let owner = caller();
            self.credit(owner, asset, amount)?;
            self.token(asset)
                .transfer_from(owner, self_address(), amount)?;
            Deposited {
                owner,
                asset,
                amount,
            }
            .emit();
            Ok(())
        }

        /// Gives the caller tokens of theirs that are in no order.
        pub fn withdraw(&mut self, asset: Asset, amount: u128) -> Result<()> {
            let owner = caller();
            self.debit(owner, asset, amount)?;
            self.token(asset).transfer(owner, amount)?;
            Withdrawn {
                owner,
                asset,
                amount,
            }
            .emit();
            Ok(())
        }

        /// Buys or sells so many lots at `price` each or better, out of what the caller has deposited. At most `max_fills` orders, and
        /// 64, are matched; what is left rests, unless it would match still more.
        pub fn place(
            &mut self,
            side: Side,
            price: u64,
            lots: u64,
            max_fills: u32,
        ) -> Result<Outcome> {
            if price == 0 || lots == 0 {
                return Err(Error::Zero);
            }
            let taker = caller();
            let lot = self.market().lot;
            let (mut open, mut paid) = (lots, 0u128);
            let mut fills_left = max_fills.min(MAX_FILLS);
            // Where to go on: a search from the front would pass over, and pay for, all keys that this call has deleted.
            let mut last = None;
            let rests = loop {
                if open == 0 {
                    break false;
                }
                let next = self.resting(side.other(), last).next().map(entry);
                let Some(Entry { id, mut order }) = next else {
                    break true;
                };
                last = Some(id);
                if !side.accepts(price, id.price) {
                    break true;
                }
                let Some(less) = fills_left.checked_sub(1) else {
                    break false;
                };
                fills_left = less;

                let fill = open.min(order.lots);
                let costs = quote(fill, id.price)?;
                let (asset, amount) = match id.side {
                    Side::Sell => (Asset::Quote, costs),
                    Side::Buy => (Asset::Base, base(fill, lot)?),
                };
                let maker = order.owner;
                self.credit(maker, asset, amount)?;
                paid = paid.checked_add(costs).ok_or(Error::Overflow)?;
                open = open.saturating_sub(fill);
                order.lots = order.lots.saturating_sub(fill);
                if order.lots == 0 {
                    self.book.remove(&id.key());
                } else {
                    self.book.set(&id.key(), &order);
                }
                Filled {
                    id,
                    maker,
                    taker,
                    lots: fill,
                }
                .emit();
            };
            let filled = lots.saturating_sub(open);
            if filled == 0 && !rests {
                return Err(Error::WouldMatch);
            }

            // What is neither filled nor rests is not paid for.
            let rest = if rests { open } else { 0 };
            let (gives, takes) = match side {
                Side::Sell => {
                    let gives = base(filled.saturating_add(rest), lot)?;
                    ((Asset::Base, gives), (Asset::Quote, paid))
                }
                Side::Buy => {
                    let gives = paid.checked_add(quote(rest, price)?);
                    let takes = base(filled, lot)?;
                    let gives = gives.ok_or(Error::Overflow)?;
                    ((Asset::Quote, gives), (Asset::Base, takes))
                }
            };
            self.debit(taker, gives.0, gives.1)?;
            if takes.1 > 0 {
                self.credit(taker, takes.0, takes.1)?;
            }
            let resting = match rests {
                true => Some(self.rest(side, price, taker, rest)?),
                false => None,
            };
            Ok(Outcome {
                filled,
                quote: paid,
                resting,
            })
        }

        /// Takes what is left of an order of the caller's out of the book and says how much that was.
        pub fn cancel(&mut self, id: OrderId) -> Result<u64> {
            let order = self.book.get(&id.key()).ok_or(Error::NoSuchOrder)?;
            let owner = caller();
            if order.owner != owner {
                return Err(Error::NotOwner);
            }
            self.book.remove(&id.key());
            let lots = order.lots;
            let (asset, amount) = match id.side {
                Side::Sell => (Asset::Base, base(lots, self.market().lot)?),
                Side::Buy => (Asset::Quote, quote(lots, id.price)?),
            };
            self.credit(owner, asset, amount)?;
            Cancelled { id, owner, lots }.emit();
            Ok(lots)
        }

        /// What is traded.
        #[view]
        pub fn market(&self) -> Market {
            match self.market.get() {
                Some(market) => market,
                // `init` has stored it, without which there is no contract.
                None => slackline::revert("not initialised"),
            }
        }

        /// What somebody has here and in no order.
        #[view]
        pub fn balance(&self, owner: Address, asset: Asset) -> u128 {
            self.balances.get_or_default(&(owner, asset))
        }

        /// What is left of an order.
        #[view]
        pub fn order(&self, id: OrderId) -> Option<Order> {
            self.book.get(&id.key())
        }

        /// The order that is matched next on a side.
        #[view]
        pub fn best(&self, side: Side) -> Option<Entry> {
            self.resting(side, None).next().map(entry)
        }

        /// Orders on a side, in the order in which they are matched: at most `limit`, and 50, from behind `after` on.
        #[view]
        pub fn orders(&self, side: Side, after: Option<OrderId>, limit: u32) -> Vec<Entry> {
            self.resting(side, after)
                .take(limit.min(MAX_LISTED) as usize)
                .map(entry)
                .collect()
        }

        /// Orders on a side, from behind `after` on.
        fn resting(&self, side: Side, after: Option<OrderId>) -> Iter<'_, (bool, u64, u64), Order> {
            let Some(after) = after else {
                return self.book.prefix(&side.is_buy());
            };
            let low = OrderId { side, ..after }.key();
            let high = (side.is_buy(), u64::MAX, u64::MAX);
            self.book
                .range((Bound::Excluded(low), Bound::Included(high)))
        }

        fn rest(&mut self, side: Side, price: u64, owner: Address, lots: u64) -> Result<OrderId> {
            let number = self.numbers.get_or_default();
            self.numbers
                .set(&number.checked_add(1).ok_or(Error::Overflow)?);
            let id = OrderId {
                side,
                price,
                number,
            };
            self.book.set(&id.key(), &Order { owner, lots });
            Placed { id, owner, lots }.emit();
            Ok(id)
        }

        fn credit(&mut self, owner: Address, asset: Asset, amount: u128) -> Result<()> {
            let sum = self.balance(owner, asset).checked_add(amount);
            self.set_balance(owner, asset, sum.ok_or(Error::Overflow)?);
            Ok(())
        }

        fn debit(&mut self, owner: Address, asset: Asset, amount: u128) -> Result<()> {
            let rest = self.balance(owner, asset).checked_sub(amount);
            self.set_balance(owner, asset, rest.ok_or(Error::InsufficientBalance)?);
            Ok(())
        }

        fn set_balance(&mut self, owner: Address, asset: Asset, amount: u128) {
            if amount == 0 {
                self.balances.remove(&(owner, asset));
            } else {
                self.balances.set(&(owner, asset), &amount);
            }
        }

        fn token(&self, asset: Asset) -> FungibleClient {
            let market = self.market();
            FungibleClient::new(match asset {
                Asset::Base => market.base,
                Asset::Quote => market.quote,
            })
        }
    }

    impl Side {
        fn is_buy(self) -> bool {
            self == Self::Buy
        }

        fn other(self) -> Self {
            match self {
                Self::Sell => Self::Buy,
                Self::Buy => Self::Sell,
            }
        }

        /// Whether an order for `price` on this side is matched by one for `theirs` on the other.
        fn accepts(self, price: u64, theirs: u64) -> bool {
            match self {
                Self::Sell => theirs >= price,
                Self::Buy => theirs <= price,
            }
        }

        /// The better of two prices has the lower rank. Its own inverse.
        fn rank(self, price: u64) -> u64 {
            match self {
                Self::Sell => price,
                Self::Buy => !price,
            }
        }
    }

    impl OrderId {
        fn key(&self) -> (bool, u64, u64) {
            let rank = self.side.rank(self.price);
            (self.side.is_buy(), rank, self.number)
        }
    }

    fn entry(((is_buy, rank, number), order): ((bool, u64, u64), Order)) -> Entry {
        let side = if is_buy { Side::Buy } else { Side::Sell };
        let price = side.rank(rank);
        let id = OrderId {
            side,
            price,
            number,
        };
        Entry { id, order }
    }

    /// How much of the base token so many lots are.
    fn base(lots: u64, lot: u128) -> Result<u128> {
        u128::from(lots).checked_mul(lot).ok_or(Error::Overflow)
    }

    /// How much of the quote token so many lots cost.
    fn quote(lots: u64, price: u64) -> Result<u128> {
        u128::from(lots)
            .checked_mul(u128::from(price))
            .ok_or(Error::Overflow)
    }
}
