//! Routers that give ports, as far as their clients can see.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinHandle,
};

/// The port of PCP and NAT-PMP, which nothing can change.
const PORT: u16 = 5351;

/// A router that speaks NAT-PMP alone (RFC 6886) and says so to who asks by PCP.
pub(crate) struct NatPmp {
    pub(crate) address: IpAddr,
    /// The lifetimes that were asked for.
    asked: Arc<Mutex<Vec<u32>>>,
    task: JoinHandle<()>,
}

impl NatPmp {
    /// Grants leases of so many seconds.
    pub(crate) async fn start(grants: u32) -> Self {
        let socket = Self::socket().await;
        let address = socket.local_addr().unwrap().ip();
        let asked = Arc::<Mutex<Vec<u32>>>::default();
        let noted = asked.clone();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 1_100];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                let request = &buffer[..length];
                let answer = match request {
                    [2, ..] => vec![0, 0, 0, 1, 0, 0, 0, 9],
                    [0, 0] => [&[0, 128, 0, 0, 0, 0, 0, 9][..], &[203, 0, 113, 7]].concat(),
                    [0, kind @ 1..=2, _, _, ports @ ..] if ports.len() == 8 => {
                        let lifetime = u32::from_be_bytes(ports[4..].try_into().unwrap());
                        noted.lock().unwrap().push(lifetime);
                        let granted = lifetime.min(grants).to_be_bytes();
                        let head = [0, 128 + kind, 0, 0, 0, 0, 0, 9];
                        [&head[..], &ports[..4], &granted].concat()
                    }
                    _ => continue,
                };
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        Self {
            address,
            asked,
            task,
        }
    }

    /// Somewhere on the loopback interface where nobody has that port.
    async fn socket() -> UdpSocket {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        for number in 2..200 {
            let address = Ipv4Addr::new(127, number, high, low | 1);
            if let Ok(socket) = UdpSocket::bind((address, PORT)).await {
                return socket;
            }
        }
        panic!("port {PORT} is taken everywhere");
    }

    pub(crate) fn asked(&self) -> Vec<u32> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) async fn until(&self, fits: impl Fn(&[u32]) -> bool) {
        while !fits(&self.asked()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for NatPmp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A router that speaks UPnP: SSDP, a description, and three actions.
pub(crate) struct Igd {
    pub(crate) search: SocketAddr,
    said: Arc<Mutex<Vec<(String, String)>>>,
    tasks: [JoinHandle<()>; 2],
}

const SERVICE: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";

impl Igd {
    pub(crate) async fn start() -> Self {
        let web = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ssdp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (search, page) = (ssdp.local_addr().unwrap(), web.local_addr().unwrap());
        let said = Arc::<Mutex<Vec<(String, String)>>>::default();
        let noted = said.clone();
        let answering = tokio::spawn(async move {
            let mut buffer = [0; 2_000];
            loop {
                let (_, from) = ssdp.recv_from(&mut buffer).await.unwrap();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\
                     LOCATION: http://{page}/root.xml\r\nEXT:\r\n\r\n"
                );
                ssdp.send_to(answer.as_bytes(), from).await.unwrap();
            }
        });
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = web.accept().await.unwrap();
                tokio::spawn(serve(stream, noted.clone()));
            }
        });
        Self {
            search,
            said,
            tasks: [answering, serving],
        }
    }

    /// What was asked of it: actions, with their bodies.
    pub(crate) fn said(&self) -> Vec<(String, String)> {
        self.said.lock().unwrap().clone()
    }
}

impl Drop for Igd {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn serve(mut stream: TcpStream, said: Arc<Mutex<Vec<(String, String)>>>) {
    let mut request = Vec::new();
    while !is_whole(&request) {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let request = String::from_utf8(request).unwrap();
    let action = request
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("soapaction"))
        .and_then(|line| line.split('#').nth(1))
        .map(|rest| rest.trim_matches('"').to_owned());
    let body = match action {
        Some(action) => {
            let inner = match action.as_str() {
                "GetExternalIPAddress" => {
                    "<NewExternalIPAddress>203.0.113.9</NewExternalIPAddress>"
                }
                _ => "",
            };
            said.lock().unwrap().push((action.clone(), request));
            format!(
                "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>\
                 <u:{action}Response xmlns:u=\"{SERVICE}\">{inner}</u:{action}Response></s:Body></s:Envelope>"
            )
        }
        None if request.starts_with("GET /root.xml") => format!(
            "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\"><device>\
             <deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><deviceList><device>\
             <deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><deviceList><device>\
             <deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType><serviceList><service>\
             <serviceType>{SERVICE}</serviceType><controlURL>/control</controlURL><SCPDURL>/scpd.xml</SCPDURL>\
             </service></serviceList></device></deviceList></device></deviceList></device></root>"
        ),
        None => {
            let action = |name: &str, arguments: &[&str]| {
                let argument = |name: &&str| {
                    format!("<argument><name>{name}</name><direction>in</direction></argument>")
                };
                let arguments: String = arguments.iter().map(argument).collect();
                format!(
                    "<action><name>{name}</name><argumentList>{arguments}</argumentList></action>"
                )
            };
            let add = [
                "NewRemoteHost",
                "NewExternalPort",
                "NewProtocol",
                "NewInternalPort",
                "NewInternalClient",
                "NewEnabled",
                "NewPortMappingDescription",
                "NewLeaseDuration",
            ];
            format!(
                "<?xml version=\"1.0\"?><scpd xmlns=\"urn:schemas-upnp-org:service-1-0\"><actionList>{}{}{}</actionList></scpd>",
                action("GetExternalIPAddress", &[]),
                action("AddPortMapping", &add),
                action("DeletePortMapping", &add[..3])
            )
        }
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all((head + &body).as_bytes()).await;
}

/// Whether the head is there, and as much of a body as it announces.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(0, |length| length.trim().parse().unwrap());
    body.len() >= length
}
