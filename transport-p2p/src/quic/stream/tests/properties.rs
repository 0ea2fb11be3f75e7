//! Over any network that is not entirely dead.

use super::*;
use proptest::prelude::*;

fn conditions() -> impl Strategy<Value = Conditions> {
    let times = (0..120u64, 0..40u64, 0..80u64);
    let shares = (0.0..0.2f64, 1.0..3.0f64, 0.0..0.2f64, 0.0..0.3f64);
    let narrow = prop::option::of(50_000..2_000_000u64);
    (times, shares, narrow).prop_map(
        |((delay, jitter, late), (loss, burst, twice, over), rate)| Conditions {
            delay: Duration::from_millis(delay),
            jitter: Duration::from_millis(jitter),
            loss,
            loss_burst: burst,
            duplicate: twice,
            reorder: over,
            reorder_delay: Duration::from_millis(late),
            rate,
            ..Conditions::default()
        },
    )
}

fn cases() -> ProptestConfig {
    ProptestConfig {
        max_shrink_iters: 50,
        ..ProptestConfig::with_cases(48)
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn bytes_arrive_exactly_once_and_in_order(
        conditions in conditions(),
        seed: u16,
        lengths in [0..400_000u64, 0..100_000u64],
        pieces in [1..70_000usize, 1..70_000usize],
        batch in 1..50usize,
        windows in (64u32 << 10..1 << 20, 64u32 << 10..1 << 20),
    ) {
        let config = Config {
            receive_window: windows.0,
            send_window: windows.1,
            // What is lost in bursts while timers back off can be all for a while.
            patience: Duration::from_secs(10_000),
            ..Config::default()
        };
        let mut pair = Pair::new(&config, &conditions, seed.into());
        pair.batch = batch;
        for at in 0..2 {
            pair.ends[at].to_send = lengths[at];
            pair.ends[at].piece = pieces[at].max(lengths[at] as usize / 200);
        }
        prop_assert!(pair.run_until(Duration::from_secs(5_000), |pair| pair.is_done()), "{:?}", pair);
        prop_assert_eq!(pair.closed(), [None, None]);
    }

    #[test]
    fn pauses_and_outages_harm_nothing(
        seed: u16,
        steps in prop::collection::vec((0..5u8, 1..3_000u64), 1..20),
    ) {
        let conditions = Conditions { rate: Some(1 << 20), ..Conditions::with_delay(Duration::from_millis(20)) };
        let mut pair = Pair::new(&Config::default(), &conditions, seed.into());
        pair.ends[0].to_send = 3 << 20;
        pair.ends[1].to_send = 1 << 20;
        for (what, time) in steps {
            let now = pair.now;
            match what {
                0 | 1 => pair.ends[usize::from(what)].paused ^= true,
                2 => for at in 0..2 {
                    pair.wires[at].set_partitioned(true);
                    pair.ends[at].stream.suspend();
                },
                3 => for at in 0..2 {
                    pair.wires[at].set_partitioned(false);
                    pair.ends[at].stream.resume(now);
                },
                _ => {}
            }
            pair.run(Duration::from_millis(time));
        }
        let now = pair.now;
        for at in 0..2 {
            pair.ends[at].paused = false;
            pair.wires[at].set_partitioned(false);
            pair.ends[at].stream.resume(now);
        }
        prop_assert!(pair.run_until(Duration::from_secs(300), |pair| pair.is_done()), "{:?}", pair);
    }
}
