//! Offers to an account: the device that takes one is the peer.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use session_core::{
    Config,
    testing::{Answer, Conditions, Note, Parcel, RECORDER_NAMESPACE, Recorder, World},
};
use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};
use transport_relay::{
    ibb::{self, Ibb},
    s5b::{self, S5b, S5bConfig},
};

#[test]
fn a_device_of_the_account_that_was_called_has_the_stream() {
    for transport in [s5b::NAMESPACE, ibb::NAMESPACE] {
        let mut world = World::new(1);
        for name in ["alice@a.example/1", "bob@b.example/2", "bob@b.example"] {
            world.add_host(name, Config::default(), |manager| {
                manager.add_transport(S5b::new(S5bConfig {
                    listen: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
                    ..S5bConfig::default()
                }))?;
                manager.add_transport(Ibb::new())?;
                let recorder = Recorder::new().with_channel("data");
                let recorder = recorder.with_transports(&[transport]);
                manager.add_client(recorder.with_answer(Answer::Accept))
            });
        }
        world.set_network(Conditions::with_delay(Duration::from_millis(10)));
        world.hold(true);
        let note = Note("call".into());
        let id = world.call(0, 2, RECORDER_NAMESPACE, &note).unwrap();
        world.settle();
        let mut offer = world.discard(0);
        let device = world.name(1).clone();
        offer.to = 1;
        if let Parcel::Message { message, .. } = &mut offer.parcel {
            message.to = device;
        }
        world.forge(offer);
        world.deliver_all();
        world.hold(false);
        world.run_for(Duration::from_secs(5));
        let sent = world.with_session(0, id, |session, now| {
            let channel = session.channel("data").unwrap();
            session.send(channel, Bytes::from_static(b"word"), now)
        });
        assert_eq!(sent, Some(Ok(())), "{transport}");
        world.run_for(Duration::from_secs(1));
        let other = world.sessions(1)[0];
        let heard = world.manager(1).peek(other).unwrap().channel("data");
        let heard = world.log(1).received(other, heard.unwrap());
        assert_eq!(heard, b"word", "{transport}");
        let session = world.manager(0).peek(id).unwrap();
        assert_eq!(session.transport(), Some(transport));
        world.check();
    }
}
