//! Nodes in one process, real sockets on loopback.

use slackline_gossip::{
    Config, Gossip, Handle, Judgement, Message, Multiaddr, PeerId, PublishError, StartError,
    identity,
};
use std::time::Duration;
use tokio::sync::mpsc;

struct Node {
    handle: Handle,
    /// What its sink was given.
    got: mpsc::UnboundedReceiver<(PeerId, Vec<u8>)>,
}

fn config(seed: u8, peers: &[&Node]) -> Config {
    let mut config = Config::new(
        [seed; 32],
        7,
        "/ip4/127.0.0.1/tcp/0".parse().expect("an address"),
    );
    config.peers = peers
        .iter()
        .map(|peer| peer.handle.addresses()[0].clone())
        .collect();
    config.redial_every = Duration::from_millis(100);
    config
}

/// The first byte says what a message is worth.
async fn start(config: Config) -> Node {
    let (give, got) = mpsc::unbounded_channel();
    let judge = move |Message { from, bytes }| {
        let judgement = match bytes.first() {
            Some(b'j') => Judgement::Junk,
            Some(b'i') => Judgement::Ignore,
            _ => Judgement::Accept,
        };
        // The test may have ended.
        let _ = give.send((from, bytes));
        judgement
    };
    let sink = move |messages: Vec<Message>| messages.into_iter().map(&judge).collect();
    Node {
        handle: Gossip::start(config, sink).await.expect("started"),
        got,
    }
}

/// There is no event for what a counter or the list of peers comes to. A minute is for ever.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

impl Node {
    fn sees(&self, other: &Node) -> bool {
        self.handle
            .peers()
            .get(&other.handle.id())
            .is_some_and(|peer| peer.subscribed)
    }

    fn publish(&self, bytes: impl AsRef<[u8]>) {
        self.handle.publish(bytes.as_ref()).expect("taken");
    }

    async fn next(&mut self) -> Vec<u8> {
        let next = tokio::time::timeout(Duration::from_secs(60), self.got.recv()).await;
        next.expect("a message in time").expect("the sink lives").1
    }

    /// All up to the message `last`.
    async fn up_to(&mut self, last: &[u8]) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while all.last().map(Vec::as_slice) != Some(last) {
            all.push(self.next().await);
        }
        all
    }
}

async fn linked(a: &Node, b: &Node) {
    until("linked", || a.sees(b) && b.sees(a)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn along_a_line_of_four_everything_arrives_exactly_once() {
    let mut line: Vec<Node> = Vec::new();
    for seed in 1..=4 {
        let peers: Vec<&Node> = line.last().into_iter().collect();
        line.push(start(config(seed, &peers)).await);
    }
    for pair in line.windows(2) {
        linked(&pair[0], &pair[1]).await;
    }
    let sent: Vec<Vec<u8>> = (0u8..50).map(|n| vec![b'a', n]).collect();
    for (n, bytes) in sent.iter().enumerate() {
        line[if n.is_multiple_of(2) { 0 } else { 3 }].publish(bytes);
    }
    // Known to all already: not given to anybody again.
    for (node, count) in line.iter().zip([25, 50, 50, 25]) {
        until("all received", || node.handle.counters().received == count).await;
    }
    line[3].publish(&sent[0]);
    for (n, node) in line.iter_mut().enumerate() {
        let foreign = |index: &usize| match n {
            0 => !index.is_multiple_of(2),
            3 => index.is_multiple_of(2),
            _ => true,
        };
        let mut expected: Vec<Vec<u8>> = (0..50)
            .filter(foreign)
            .map(|index| sent[index].clone())
            .collect();
        let mut got = Vec::new();
        while got.len() < expected.len() {
            got.push(node.next().await);
        }
        got.sort_unstable();
        expected.sort_unstable();
        assert_eq!(got, expected, "node {n}");
    }
    // The last word comes after everything that was on its way, and alone.
    line[0].publish("a last");
    for node in &mut line[1..] {
        assert_eq!(node.up_to(b"a last").await, [b"a last"]);
    }
    let counters = line[1].handle.counters();
    assert_eq!(
        (
            counters.received,
            counters.accepted,
            counters.junk,
            counters.late
        ),
        (51, 51, 0, 0)
    );
    for node in &line {
        node.handle.shutdown().await;
        assert_eq!(node.handle.publish(&[1]), Err(PublishError::Stopped));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_lost_arrives_when_it_is_published_again() {
    let mut node = start(Config {
        peer_messages_per_second: 1,
        ..config(1, &[])
    })
    .await;
    let sender = start(config(2, &[&node])).await;
    linked(&node, &sender).await;
    // Two at once are in its rate, and the next one is not.
    for text in ["a first", "a second", "a third"] {
        sender.publish(text);
    }
    until("one was dropped", || {
        node.handle.counters().rate_limited == 1
    })
    .await;
    assert_eq!(node.up_to(b"a second").await.len(), 2);
    // Under its name it has been seen: it is not even sent. A new edition is, once the rate allows it.
    sender.publish("a third");
    for edition in 1.. {
        let again = sender.handle.publish_again(b"a third", edition);
        again.expect("taken");
        let counted = || {
            let counters = node.handle.counters();
            counters.accepted + counters.rate_limited == 3 + edition
        };
        until("counted", counted).await;
        if node.handle.counters().accepted == 3 {
            break;
        }
    }
    assert_eq!(node.next().await, b"a third");
    // Without peers first editions are held back, and no others.
    let alone = start(config(3, &[])).await;
    alone.handle.publish_again(b"again", 7).expect("taken");
    alone.publish("a first");
    until("held back", || alone.handle.counters().held == 1).await;
    assert_eq!(alone.handle.counters().publish_dropped, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_ignored_or_junk_goes_no_further_and_a_junk_peer_is_banned() {
    let mut middle = start(Config {
        strikes: 2,
        ..config(1, &[])
    })
    .await;
    let mut good = start(config(2, &[&middle])).await;
    let bad = start(config(3, &[&middle])).await;
    linked(&middle, &good).await;
    linked(&middle, &bad).await;
    bad.publish("ignored");
    bad.publish("junk 1");
    bad.publish("a fine one");
    bad.publish("junk 2");
    assert_eq!(good.up_to(b"a fine one").await, [b"a fine one"]);
    assert_eq!(middle.up_to(b"junk 2").await.len(), 4);
    assert!(middle.sees(&bad), "two strikes are forgiven");
    bad.publish("junk 3");
    until("banned", || {
        !middle.handle.peers().contains_key(&bad.handle.id())
    })
    .await;
    assert_eq!(middle.up_to(b"junk 3").await, [b"junk 3"]);
    let counters = middle.handle.counters();
    assert_eq!(
        (
            counters.junk,
            counters.strikes,
            counters.bans,
            counters.ignored
        ),
        (3, 3, 1, 1)
    );
    until("the connection closed", || bad.handle.peers().is_empty()).await;
    // It tries to come back, in vain; the others are served.
    bad.publish("a message from the banned");
    for n in 0..20 {
        good.publish(format!("a good {n}"));
    }
    let got = middle.up_to(b"a good 19").await;
    assert_eq!(got.len(), 20, "{got:?}");
    until("held back", || bad.handle.counters().held == 1).await;
    assert_eq!(middle.handle.peers().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ban_ends() {
    let short = Config {
        strikes: 0,
        ban_for: Duration::from_millis(500),
        ..config(1, &[])
    };
    let mut one = start(short).await;
    let other = start(config(2, &[&one])).await;
    linked(&one, &other).await;
    other.publish("junk");
    until("banned", || one.handle.counters().bans == 1).await;
    until("let in again", || one.handle.counters().connections == 2).await;
    linked(&one, &other).await;
    other.publish("a fine one");
    assert_eq!(
        one.up_to(b"a fine one").await,
        [b"junk".as_slice(), b"a fine one"]
    );
    // By hand, as for what the sink does not see.
    one.handle.penalise(other.handle.id()).await;
    until("banned again", || one.handle.counters().bans == 2).await;
    until("let in again", || one.handle.counters().connections == 3).await;
    one.handle.ban(other.handle.id()).await;
    until("banned once more", || one.handle.counters().bans == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused_on_both_sides() {
    let mut node = start(Config {
        message_bytes: 1_000,
        strikes: 0,
        ..config(1, &[])
    })
    .await;
    let good = start(Config {
        message_bytes: 1_000,
        ..config(2, &[&node])
    })
    .await;
    // To these two the limit is another one.
    let (little, much) = (
        start(config(3, &[&node])).await,
        start(config(4, &[&node])).await,
    );
    for peer in [&good, &little, &much] {
        linked(&node, peer).await;
    }
    assert_eq!(
        good.handle.publish(&[b'a'; 1_001]),
        Err(PublishError::TooLarge {
            bytes: 1_001,
            limit: 1_000
        })
    );
    little.publish([b'a'; 1_001]);
    much.publish(vec![b'a'; 500_000]);
    until("refused and banned", || node.handle.counters().bans == 1).await;
    until("gone", || {
        !node.handle.peers().contains_key(&little.handle.id())
    })
    .await;
    good.publish([b'a'; 1_000]);
    assert_eq!(node.next().await, [b'a'; 1_000]);
    until("accepted", || node.handle.counters().accepted == 1).await;
    let counters = node.handle.counters();
    assert_eq!(
        (counters.too_large, counters.received, counters.accepted),
        (1, 2, 1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_restarts_is_back() {
    let first = start(config(1, &[])).await;
    let address = first.handle.addresses()[0].clone();
    let mut other = start(config(2, &[&first])).await;
    linked(&first, &other).await;
    first.handle.shutdown().await;
    until("gone", || other.handle.peers().is_empty()).await;
    other.publish("a message held back");
    // The same place, with the own identity in it, and oneself among the peers: as one configuration for all would have it.
    let mut again = config(1, &[]);
    (again.listen, again.peers) = (address.clone(), vec![address]);
    let mut first = start(again).await;
    assert_eq!(first.next().await, b"a message held back");
    linked(&first, &other).await;
    first.publish("an answer");
    assert_eq!(other.next().await, b"an answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_those_on_the_list_and_of_the_chain_take_part() {
    let mut node = start(Config {
        allow: Some([identity([2; 32]), identity([4; 32])].into()),
        ..config(1, &[])
    })
    .await;
    let good = start(config(2, &[&node])).await;
    let stranger = start(config(3, &[&node])).await;
    let elsewhere = start(Config {
        chain_id: 8,
        ..config(4, &[&node])
    })
    .await;
    linked(&node, &good).await;
    until("disconnected", || node.handle.counters().not_allowed > 0).await;
    until("connected", || {
        elsewhere.handle.peers().contains_key(&node.handle.id())
    })
    .await;
    stranger.publish("a stranger's");
    elsewhere.publish("a message of another chain");
    good.publish("a good one");
    assert_eq!(node.next().await, b"a good one");
    assert!(!node.handle.peers().contains_key(&stranger.handle.id()));
    until("held back", || elsewhere.handle.counters().held == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_and_a_slow_sink_lose_messages_and_count_them() {
    let node = start(Config {
        peer_messages_per_second: 5,
        ..config(1, &[])
    })
    .await;
    let flood = start(config(2, &[&node])).await;
    linked(&node, &flood).await;
    for n in 0u8..200 {
        flood.publish([b'a', n]);
    }
    until("all counted", || {
        let counters = node.handle.counters();
        counters.accepted + counters.rate_limited == 200
    })
    .await;
    let counters = node.handle.counters();
    assert!(
        counters.accepted >= 10 && counters.rate_limited > 0,
        "{counters:?}"
    );
    assert_eq!((counters.strikes, counters.queue_full), (0, 0));

    // The sink waits for a word at each message.
    let (word, wait) = std::sync::mpsc::channel::<()>();
    let judge = move |_| match wait.recv() {
        Ok(()) => Judgement::Accept,
        Err(_) => Judgement::Ignore,
    };
    let sink = move |messages: Vec<Message>| messages.into_iter().map(&judge).collect();
    let slow = Gossip::start(
        Config {
            queue: 4,
            ..config(3, &[&flood])
        },
        sink,
    )
    .await
    .expect("started");
    until("linked", || {
        flood
            .handle
            .peers()
            .get(&slow.id())
            .is_some_and(|peer| peer.subscribed)
    })
    .await;
    for n in 0u8..50 {
        flood.publish([b'b', n]);
    }
    until("all received", || slow.counters().received >= 50).await;
    let lost = slow.counters().queue_full;
    assert!(
        (42..=46).contains(&lost),
        "four wait, and what the sink took at first, which is none or up to four: {lost}"
    );
    for _ in 0..50 {
        word.send(()).expect("it lives");
    }
    until("judged", || slow.counters().accepted == 50 - lost).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_start_says_so() {
    let node = start(config(1, &[])).await;
    let taken = Config {
        listen: node.handle.addresses()[0].clone(),
        ..config(2, &[])
    };
    let error = Gossip::start(taken, |_: Vec<Message>| Vec::new())
        .await
        .expect_err("taken");
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
    let nowhere: Multiaddr = "/dns4/example.org/udp/1".parse().expect("an address");
    let nowhere = Config {
        listen: nowhere,
        ..config(2, &[])
    };
    let error = Gossip::start(nowhere, |_: Vec<Message>| Vec::new())
        .await
        .expect_err("no such transport");
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_panics_is_called_again() {
    let sink = |messages: Vec<Message>| -> Vec<Judgement> {
        let panics = messages.iter().any(|message| message.bytes == b"a bad one");
        assert!(!panics, "on purpose");
        vec![Judgement::Accept; messages.len()]
    };
    let fragile = Gossip::start(config(1, &[]), sink).await.expect("started");
    let fragile = Node {
        handle: fragile,
        got: mpsc::unbounded_channel().1,
    };
    let node = start(config(2, &[&fragile])).await;
    linked(&node, &fragile).await;
    node.publish("a bad one");
    until("panicked", || fragile.handle.counters().sink_panics == 1).await;
    node.publish("a good one");
    until("accepted", || fragile.handle.counters().accepted == 1).await;
    let counters = fragile.handle.counters();
    assert_eq!((counters.ignored, counters.strikes), (1, 0));
    fragile.handle.shutdown().await;
    assert!(fragile.handle.peers().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_whose_task_is_gone_has_ended_and_has_no_peers() {
    let elsewhere = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let lost = elsewhere.spawn(start(config(1, &[]))).await.expect("run");
    let node = start(config(2, &[&lost])).await;
    linked(&node, &lost).await;
    let end = lost.handle.end();
    elsewhere.shutdown_background();
    let in_time = tokio::time::timeout(Duration::from_secs(60), end).await;
    in_time.expect("it has ended");
    assert!(lost.handle.peers().is_empty());
    assert_eq!(lost.handle.publish(&[1]), Err(PublishError::Stopped));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_the_sink_has_few_bytes_of_all_and_of_each_peer() {
    // The sink waits for a word at each message.
    let (word, wait) = std::sync::mpsc::channel::<()>();
    let judge = move |_| match wait.recv() {
        Ok(()) => Judgement::Accept,
        Err(_) => Judgement::Ignore,
    };
    let sink = move |messages: Vec<Message>| messages.into_iter().map(&judge).collect();
    let small = Config {
        message_bytes: 400,
        queue_bytes: 1_000,
        peer_queue_bytes: 600,
        ..config(1, &[])
    };
    let slow = Node {
        handle: Gossip::start(small, sink).await.expect("started"),
        got: mpsc::unbounded_channel().1,
    };
    let one = start(config(2, &[&slow])).await;
    let other = start(config(3, &[&slow])).await;
    linked(&slow, &one).await;
    linked(&slow, &other).await;
    let counters = || slow.handle.counters();
    for n in 0..5 {
        one.publish([n; 300]);
    }
    until("two of five wait", || counters().queue_full == 3).await;
    for n in 5..7 {
        other.publish([n; 300]);
    }
    until("one of two waits", || counters().queue_full == 4).await;
    for _ in 0..3 {
        word.send(()).expect("it lives");
    }
    until("judged", || counters().accepted == 3).await;
    // Now there is room.
    one.publish([7; 400]);
    word.send(()).expect("it lives");
    until("judged", || counters().accepted == 4).await;
    assert_eq!((counters().queue_full, counters().received), (4, 8));
}

/// On one thread, so that nothing is sent meanwhile.
#[tokio::test]
async fn what_waits_to_be_published_has_few_bytes() {
    let node = start(Config {
        message_bytes: 400,
        queue_bytes: 1_000,
        ..config(1, &[])
    })
    .await;
    node.publish([1; 400]);
    node.publish([2; 400]);
    assert_eq!(node.handle.publish(&[3; 400]), Err(PublishError::Busy));
    assert_eq!(node.handle.counters().publish_busy, 1);
    until("held back", || node.handle.counters().held == 2).await;
    node.publish([3; 400]);
    until("held back", || node.handle.counters().held == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_has_few_places_and_those_who_are_expected_have_their_own() {
    let expected = identity([4; 32]);
    let mut few = Config {
        incoming: 3,
        incoming_per_ip: 1,
        ..config(1, &[])
    };
    // It is not there: it comes by itself.
    few.peers = vec![
        format!("/ip4/127.0.0.1/tcp/1/p2p/{expected}")
            .parse()
            .expect("an address"),
    ];
    let node = start(few).await;
    let first = start(config(2, &[&node])).await;
    linked(&node, &first).await;
    let second = start(config(3, &[&node])).await;
    until("refused", || node.handle.counters().crowded > 0).await;
    let own = start(config(4, &[&node])).await;
    linked(&node, &own).await;
    assert!(!node.sees(&second) && node.sees(&first));
    first.handle.shutdown().await;
    linked(&node, &second).await;
    assert_eq!(node.handle.peers().len(), 2);
}
