//! A private relay, which Prosody tells of.

use crate::lab::{Folder, SCRAM};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    process::{Child, Command, Stdio},
};

/// What the server and the relay share.
const SECRET: &str = "north";

/// What Prosody's module `external_services` is told.
pub(crate) fn settings(ip: IpAddr, port: u16) -> String {
    format!(
        "external_service_secret = \"{SECRET}\"\n\
         external_services = {{ {{ type = \"turn\"; transport = \"udp\"; host = \"{ip}\"; port = {port}; \
         secret = true; ttl = 600 }} }}"
    )
}

/// A relay, which is ended with its holder.
pub(crate) struct Coturn(Child);

impl Coturn {
    pub(crate) fn start(folder: &Folder, ip: IpAddr, port: u16) -> Self {
        let path = folder.path().display();
        let config = format!(
            "listening-ip={ip}\nrelay-ip={ip}\nlistening-port={port}\nno-tls\nno-dtls\nuse-auth-secret\n\
             static-auth-secret={SECRET}\nrealm={SCRAM}\nuserdb={path}/turndb\npidfile={path}/turnserver.pid\n\
             no-cli\nallow-loopback-peers\nlog-file=stdout\nsimple-log\nno-multicast-peers\n"
        );
        let config = folder.write("turnserver.conf", &config);
        let log = fs::File::create(folder.path().join("coturn.log")).unwrap();
        let mut command = Command::new("turnserver");
        command
            .arg("-c")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log);
        Self(command.stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The address of this host by which others reach it; it is enough to ask for a way, nothing is sent.
pub(crate) fn own_address() -> IpAddr {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let connected = socket.connect(("192.0.2.1", 9));
    let local = connected.and_then(|()| socket.local_addr());
    local.map_or_else(|_| Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}
