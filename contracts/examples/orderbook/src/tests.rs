//! The market on the mock host, with tokens that move whatever they are asked to; and against a model.

extern crate std;

use crate::TokenError;
use crate::orderbook::{
    Asset, Cancelled, Deposited, Entry, Error, Filled, Market, Order, OrderId, Outcome, Placed,
    Side, Withdrawn, exports,
};
use Asset::{Base, Quote};
use Side::{Buy, Sell};
use core::cell::RefCell;
use proptest::prelude::*;
use slackline::borsh;
use slackline::mock::{self, Host, OtherCall, Revert};
use slackline::prelude::*;
use std::collections::BTreeMap;
use std::rc::Rc;

const ALICE: Address = Address([1; 32]);
const BOB: Address = Address([2; 32]);
const CAROL: Address = Address([3; 32]);
const BASE: Address = Address([0xa; 32]);
const QUOTE: Address = Address([0xb; 32]);
const LOT: u128 = 10;
const RICH: u128 = 1 << 100;

/// Everybody is rich.
fn market() -> Host {
    let mut host = Host::default();
    host.call::<()>(ALICE, exports::init, (BASE, QUOTE, LOT))
        .unwrap();
    mock::with_others(
        |_| Ok(Vec::new()),
        || {
            for owner in [ALICE, BOB, CAROL] {
                for asset in [Base, Quote] {
                    host.call::<()>(owner, exports::deposit, (asset, RICH))
                        .unwrap();
                    let deposited = Deposited {
                        owner,
                        asset,
                        amount: RICH,
                    };
                    assert_eq!(host.emitted::<Deposited>(), [deposited]);
                }
            }
        },
    );
    host
}

fn place(
    host: &mut Host,
    owner: Address,
    side: Side,
    price: u64,
    lots: u64,
    max_fills: u32,
) -> Result<Outcome, Revert> {
    host.call(owner, exports::place, (side, price, lots, max_fills))
}

/// Places an order that rests as it is.
fn rest(host: &mut Host, owner: Address, side: Side, price: u64, lots: u64) -> OrderId {
    let outcome = place(host, owner, side, price, lots, 0).unwrap();
    assert_eq!((outcome.filled, outcome.quote), (0, 0));
    outcome.resting.unwrap()
}

fn cancel(host: &mut Host, owner: Address, id: OrderId) -> Result<u64, Revert> {
    host.call(owner, exports::cancel, id)
}

/// What somebody has more than at first.
fn gained(host: &mut Host, owner: Address) -> (i128, i128) {
    let mut of = |asset| {
        let balance: u128 = host.call(owner, exports::balance, (owner, asset)).unwrap();
        balance.cast_signed() - RICH.cast_signed()
    };
    (of(Base), of(Quote))
}

fn orders(host: &mut Host, side: Side) -> Vec<Entry> {
    host.call(CAROL, exports::orders, (side, None::<OrderId>, 50u32))
        .unwrap()
}

fn failed<T>(error: Error) -> Result<T, Revert> {
    Err(Revert::with(&error))
}

#[test]
fn a_market_is_of_two_tokens_in_lots() {
    let mut host = Host::default();
    for (quote, lot) in [(BASE, 1u128), (QUOTE, 0)] {
        assert_eq!(
            host.call::<()>(ALICE, exports::init, (BASE, quote, lot)),
            failed(Error::BadMarket)
        );
    }
    let market = Market {
        base: BASE,
        quote: QUOTE,
        lot: 1,
    };
    host.call::<()>(ALICE, exports::init, &market).unwrap();
    assert_eq!(host.call(ALICE, exports::market, ()), Ok(market));
}

#[test]
fn what_is_deposited_can_be_withdrawn() {
    let mut host = market();
    let calls = Rc::new(RefCell::new(Vec::new()));
    let answer = {
        let calls = calls.clone();
        move |call: OtherCall<'_>| {
            calls
                .borrow_mut()
                .push((call.to, call.method.to_string(), call.input.to_vec()));
            Ok(Vec::new())
        }
    };
    let market = host.address;
    mock::with_others(answer, || {
        host.call::<()>(ALICE, exports::deposit, (Base, 5u128))
            .unwrap();
        assert_eq!(gained(&mut host, ALICE), (5, 0));
        host.call::<()>(ALICE, exports::withdraw, (Quote, 7u128))
            .unwrap();
        let withdrawn = Withdrawn {
            owner: ALICE,
            asset: Quote,
            amount: 7,
        };
        assert_eq!(host.emitted::<Withdrawn>(), [withdrawn]);
        assert_eq!(gained(&mut host, ALICE), (5, -7));
        assert_eq!(
            host.call::<()>(ALICE, exports::withdraw, (Quote, RICH - 6)),
            failed(Error::InsufficientBalance)
        );
    });
    let taken = borsh::to_vec(&(ALICE, market, 5u128)).unwrap();
    let given = borsh::to_vec(&(ALICE, 7u128)).unwrap();
    assert_eq!(
        *calls.borrow(),
        [
            (BASE, "transfer_from".to_string(), taken),
            (QUOTE, "transfer".to_string(), given)
        ]
    );
}

#[test]
fn when_a_token_refuses_nothing_is_credited() {
    let mut host = market();
    let error = CallError::Reverted(borsh::to_vec(&TokenError::InsufficientAllowance).unwrap());
    let answer = {
        let error = error.clone();
        move |_: OtherCall<'_>| Err(error.clone())
    };
    mock::with_others(answer, || {
        assert_eq!(
            host.call::<()>(ALICE, exports::deposit, (Base, 5u128)),
            failed(Error::Token(error.clone()))
        );
        assert_eq!(
            host.call::<()>(ALICE, exports::withdraw, (Base, 5u128)),
            failed(Error::Token(error))
        );
    });
    assert_eq!(gained(&mut host, ALICE), (0, 0));
}

#[test]
fn an_order_that_rests_is_paid_for_and_can_be_cancelled() {
    let mut host = market();
    let bid = rest(&mut host, ALICE, Buy, 7, 3);
    let placed = Placed {
        id: bid,
        owner: ALICE,
        lots: 3,
    };
    assert_eq!(host.emitted::<Placed>(), [placed]);
    let ask = rest(&mut host, ALICE, Sell, 8, 4);
    assert_eq!(gained(&mut host, ALICE), (-40, -21));
    let order = Order {
        owner: ALICE,
        lots: 3,
    };
    assert_eq!(host.call(BOB, exports::order, bid), Ok(Some(order)));
    assert_eq!(cancel(&mut host, BOB, bid), failed(Error::NotOwner));
    assert_eq!(cancel(&mut host, ALICE, bid), Ok(3));
    let cancelled = Cancelled {
        id: bid,
        owner: ALICE,
        lots: 3,
    };
    assert_eq!(host.emitted::<Cancelled>(), [cancelled]);
    assert_eq!(cancel(&mut host, ALICE, bid), failed(Error::NoSuchOrder));
    assert_eq!(cancel(&mut host, ALICE, ask), Ok(4));
    assert_eq!(gained(&mut host, ALICE), (0, 0));
    assert_eq!(host.call(BOB, exports::best, Buy), Ok(None::<Entry>));
}

#[test]
fn the_best_price_is_matched_first_and_then_the_oldest() {
    let mut host = market();
    for (owner, price) in [(ALICE, 12), (BOB, 11), (ALICE, 11), (BOB, 13)] {
        rest(&mut host, owner, Sell, price, 2);
    }
    let outcome = place(&mut host, CAROL, Buy, 12, 5, 10).unwrap();
    let filled: Vec<_> = host.emitted::<Filled>();
    let filled: Vec<_> = filled
        .iter()
        .map(|fill| (fill.maker, fill.id.price, fill.lots))
        .collect();
    assert_eq!(filled, [(BOB, 11, 2), (ALICE, 11, 2), (ALICE, 12, 1)]);
    let all = Outcome {
        filled: 5,
        quote: 56,
        resting: None,
    };
    assert_eq!(outcome, all);
    // At the price of who was there first.
    assert_eq!(gained(&mut host, CAROL), (50, -56));
    assert_eq!(gained(&mut host, BOB), (-40, 22));
    assert_eq!(gained(&mut host, ALICE), (-40, 34));
    let rest: Vec<_> = orders(&mut host, Sell)
        .iter()
        .map(|entry| (entry.id.price, entry.order.lots))
        .collect();
    assert_eq!(rest, [(12, 1), (13, 2)]);
}

#[test]
fn what_is_left_of_an_order_rests() {
    let mut host = market();
    rest(&mut host, ALICE, Buy, 10, 2);
    rest(&mut host, ALICE, Buy, 8, 2);
    let outcome = place(&mut host, BOB, Sell, 9, 5, 10).unwrap();
    let id = OrderId {
        side: Sell,
        price: 9,
        number: 2,
    };
    let partly = Outcome {
        filled: 2,
        quote: 20,
        resting: Some(id),
    };
    assert_eq!(outcome, partly);
    assert_eq!(gained(&mut host, BOB), (-50, 20));
    assert_eq!(gained(&mut host, ALICE), (20, -36));
    let best: Option<Entry> = host.call(CAROL, exports::best, Sell).unwrap();
    let order = Order {
        owner: BOB,
        lots: 3,
    };
    assert_eq!(best, Some(Entry { id, order }));
    let best: Option<Entry> = host.call(CAROL, exports::best, Buy).unwrap();
    assert_eq!(best.map(|entry| entry.id.price), Some(8));
}

#[test]
fn no_more_is_matched_than_wanted_and_the_book_does_not_cross() {
    let mut host = market();
    for price in [10, 11, 12] {
        rest(&mut host, ALICE, Sell, price, 1);
    }
    assert_eq!(
        place(&mut host, BOB, Buy, 12, 9, 0),
        failed(Error::WouldMatch)
    );
    let outcome = place(&mut host, BOB, Buy, 12, 9, 2).unwrap();
    let some = Outcome {
        filled: 2,
        quote: 21,
        resting: None,
    };
    assert_eq!(outcome, some);
    assert_eq!(gained(&mut host, BOB), (20, -21));
    // Just as many as there are: then the rest does not match.
    let outcome = place(&mut host, BOB, Buy, 12, 9, 1).unwrap();
    assert_eq!(outcome.filled, 1);
    assert_eq!(outcome.resting.map(|id| id.price), Some(12));
    assert_eq!(gained(&mut host, BOB), (30, -33 - 8 * 12));
}

#[test]
fn one_call_matches_at_most_sixty_four() {
    let mut host = market();
    for _ in 0..70 {
        rest(&mut host, ALICE, Sell, 1, 1);
    }
    let outcome = place(&mut host, BOB, Buy, 1, 70, u32::MAX).unwrap();
    assert_eq!((outcome.filled, outcome.resting), (64, None));
    assert_eq!(host.emitted::<Filled>().len(), 64);
    let outcome = place(&mut host, BOB, Buy, 1, 70, u32::MAX).unwrap();
    assert_eq!((outcome.filled, outcome.resting.is_some()), (6, true));
}

#[test]
fn one_may_match_oneself() {
    let mut host = market();
    rest(&mut host, ALICE, Sell, 5, 3);
    place(&mut host, ALICE, Buy, 5, 3, 1).unwrap();
    assert_eq!(gained(&mut host, ALICE), (0, 0));
    assert_eq!(orders(&mut host, Sell), []);
}

#[test]
fn nobody_places_what_they_have_not_deposited() {
    let mut host = market();
    let poor = Address([9; 32]);
    rest(&mut host, ALICE, Sell, 5, 3);
    let before = host.storage.clone();
    for (side, price) in [(Buy, 4), (Buy, 5), (Sell, 5)] {
        assert_eq!(
            place(&mut host, poor, side, price, 1, 1),
            failed(Error::InsufficientBalance)
        );
    }
    for (price, lots) in [(0, 1), (1, 0)] {
        assert_eq!(
            place(&mut host, ALICE, Buy, price, lots, 1),
            failed(Error::Zero)
        );
    }
    assert_eq!(
        place(&mut host, ALICE, Buy, u64::MAX, u64::MAX, 0),
        failed(Error::WouldMatch)
    );
    assert_eq!(
        place(&mut host, ALICE, Buy, u64::MAX, u64::MAX, 1),
        failed(Error::InsufficientBalance)
    );
    assert_eq!(host.storage, before);
}

#[test]
fn lots_of_any_size_do_not_wrap() {
    let mut host = Host::default();
    host.call::<()>(ALICE, exports::init, (BASE, QUOTE, u128::MAX))
        .unwrap();
    assert_eq!(
        place(&mut host, ALICE, Sell, 1, 2, 0),
        failed(Error::Overflow)
    );
}

#[test]
fn orders_are_listed_in_pages() {
    let mut host = market();
    let ids: Vec<OrderId> = [5, 3, 4, 3]
        .iter()
        .map(|price| rest(&mut host, ALICE, Buy, *price, 1))
        .collect();
    rest(&mut host, ALICE, Sell, 9, 1);
    let mut page = |after: Option<OrderId>, limit: u32| -> Vec<u64> {
        let page: Vec<Entry> = host
            .call(CAROL, exports::orders, (Buy, after, limit))
            .unwrap();
        page.iter().map(|entry| entry.id.number).collect()
    };
    assert_eq!(page(None, 9), [0, 2, 1, 3]);
    assert_eq!(page(None, 2), [0, 2]);
    assert_eq!(page(Some(ids[2]), 2), [1, 3]);
    assert_eq!(page(Some(ids[1]), 2), [3]);
    assert_eq!(page(Some(ids[3]), 2), [0; 0]);
}

#[derive(Clone, Debug)]
enum Step {
    Place(Address, Side, u64, u64, u32),
    /// The order at this place, if there is one.
    Cancel(Side, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let owner = || prop::sample::select(vec![ALICE, BOB, CAROL]);
    let side = || prop::sample::select(vec![Buy, Sell]);
    let step = prop_oneof![
        5 => (owner(), side(), 1..8u64, 1..10u64, 0..6u32)
            .prop_map(|(owner, side, price, lots, fills)| Step::Place(owner, side, price, lots, fills)),
        1 => (side(), 0..6usize).prop_map(|(side, at)| Step::Cancel(side, at)),
    ];
    prop::collection::vec(step, 1..40)
}

/// The same market, simply: every order in a vector, sorted when asked.
#[derive(Default)]
struct Model {
    orders: Vec<Entry>,
    numbers: u64,
    gained: BTreeMap<Address, (i128, i128)>,
}

impl Model {
    fn side(&self, side: Side) -> Vec<Entry> {
        let mut orders: Vec<_> = self
            .orders
            .iter()
            .filter(|entry| entry.id.side == side)
            .cloned()
            .collect();
        orders.sort_by_key(|entry| {
            let price = i128::from(entry.id.price);
            (if side == Buy { -price } else { price }, entry.id.number)
        });
        orders
    }

    fn add(&mut self, owner: Address, base: i128, quote: i128) {
        let gained = self.gained.entry(owner).or_default();
        *gained = (gained.0 + base, gained.1 + quote);
    }

    fn place(
        &mut self,
        owner: Address,
        side: Side,
        price: u64,
        lots: u64,
        fills: u32,
    ) -> Option<Outcome> {
        let other = if side == Buy { Sell } else { Buy };
        let matching: Vec<_> = self
            .side(other)
            .into_iter()
            .filter(|entry| match side {
                Buy => entry.id.price <= price,
                Sell => entry.id.price >= price,
            })
            .collect();
        let (mut open, mut paid) = (lots, 0);
        let mut done = 0;
        for entry in matching.iter().take(fills as usize) {
            if open == 0 {
                break;
            }
            let fill = open.min(entry.order.lots);
            open -= fill;
            done += usize::from(fill == entry.order.lots);
            let costs = i128::from(fill * entry.id.price);
            paid += costs;
            let base = i128::from(fill) * 10;
            match side {
                Buy => {
                    self.add(owner, base, -costs);
                    self.add(entry.order.owner, 0, costs);
                }
                Sell => {
                    self.add(owner, -base, costs);
                    self.add(entry.order.owner, base, 0);
                }
            }
            for order in &mut self.orders {
                if order.id == entry.id {
                    order.order.lots -= fill;
                }
            }
        }
        self.orders.retain(|entry| entry.order.lots > 0);
        let rests = open > 0 && done == matching.len();
        if open == lots && !rests {
            return None;
        }
        let resting = rests.then(|| {
            match side {
                Buy => self.add(owner, 0, -i128::from(open * price)),
                Sell => self.add(owner, -i128::from(open) * 10, 0),
            }
            let id = OrderId {
                side,
                price,
                number: self.numbers,
            };
            self.numbers += 1;
            self.orders.push(Entry {
                id,
                order: Order { owner, lots: open },
            });
            id
        });
        Some(Outcome {
            filled: lots - open,
            quote: paid.cast_unsigned(),
            resting,
        })
    }

    fn cancel(&mut self, entry: &Entry) {
        let lots = i128::from(entry.order.lots);
        match entry.id.side {
            Buy => self.add(entry.order.owner, 0, lots * i128::from(entry.id.price)),
            Sell => self.add(entry.order.owner, lots * 10, 0),
        }
        self.orders.retain(|order| order.id != entry.id);
    }
}

proptest! {
    /// The market does what the model does; what is in balances and orders is what was deposited; no bid reaches an ask.
    #[test]
    fn a_market_is_as_its_model(steps in steps()) {
        let mut host = market();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Place(owner, side, price, lots, fills) => {
                    let outcome = place(&mut host, owner, side, price, lots, fills);
                    match model.place(owner, side, price, lots, fills) {
                        None => prop_assert_eq!(outcome, failed(Error::WouldMatch)),
                        Some(expected) => prop_assert_eq!(outcome, Ok(expected)),
                    }
                }
                Step::Cancel(side, at) => {
                    if let Some(entry) = model.side(side).get(at) {
                        let cancelled = cancel(&mut host, entry.order.owner, entry.id);
                        prop_assert_eq!(cancelled, Ok(entry.order.lots));
                        model.cancel(entry);
                    }
                }
            }
            let (mut base, mut quote) = (0, 0);
            for owner in [ALICE, BOB, CAROL] {
                let gained = gained(&mut host, owner);
                prop_assert_eq!(gained, model.gained.get(&owner).copied().unwrap_or_default());
                (base, quote) = (base + gained.0, quote + gained.1);
            }
            let (asks, bids) = (orders(&mut host, Sell), orders(&mut host, Buy));
            prop_assert_eq!(&asks, &model.side(Sell));
            prop_assert_eq!(&bids, &model.side(Buy));
            base += asks.iter().map(|ask| i128::from(ask.order.lots) * 10).sum::<i128>();
            quote += bids.iter().map(|bid| i128::from(bid.order.lots * bid.id.price)).sum::<i128>();
            prop_assert_eq!((base, quote), (0, 0));
            if let (Some(ask), Some(bid)) = (asks.first(), bids.first()) {
                prop_assert!(bid.id.price < ask.id.price);
            }
        }
    }
}
