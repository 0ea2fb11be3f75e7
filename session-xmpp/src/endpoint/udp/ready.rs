//! Waiting for a UDP socket.
//!
//! A socket that the system watches for room to write wakes the runtime each time a datagram has left, which nobody
//! waits for unless the buffer was full: a quarter to a third of what sending costs. So a socket is watched for arrivals,
//! and for room only while something waits for it.

#[cfg(not(unix))]
pub(super) use portable::Readable;
#[cfg(unix)]
pub(super) use unix::Readable;

#[cfg(unix)]
mod unix {
    use std::{io, net::UdpSocket};
    use tokio::io::{Interest, unix::AsyncFd};

    /// A socket that can be waited for until something arrives.
    #[derive(Debug)]
    pub(in super::super) struct Readable(AsyncFd<UdpSocket>);

    impl Readable {
        /// Takes a socket that does not block. Only within a runtime.
        pub(in super::super) fn new(socket: UdpSocket) -> io::Result<Self> {
            watch(socket, Interest::READABLE).map(Self)
        }

        pub(in super::super) fn socket(&self) -> &UdpSocket {
            self.0.get_ref()
        }

        /// Reads as soon as it does not block. Cancel-safe.
        pub(in super::super) async fn read(
            &self,
            mut read: impl FnMut() -> io::Result<()>,
        ) -> io::Result<()> {
            self.0.async_io(Interest::READABLE, |_| read()).await
        }

        /// The same socket, to be waited for until there is room.
        pub(in super::super) fn writable(&self) -> io::Result<Writable> {
            watch(self.socket().try_clone()?, Interest::WRITABLE).map(Writable)
        }
    }

    /// A socket that can be waited for until there is room.
    #[derive(Debug)]
    pub(in super::super) struct Writable(AsyncFd<UdpSocket>);

    impl Writable {
        /// Writes as soon as it does not block. Cancel-safe.
        pub(in super::super) async fn write(
            &self,
            mut write: impl FnMut() -> io::Result<()>,
        ) -> io::Result<()> {
            self.0.async_io(Interest::WRITABLE, |_| write()).await
        }
    }

    #[allow(
        deprecated,
        reason = "its successor is unsafe for types whose descriptor may change; that of a socket does not"
    )]
    fn watch(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
        AsyncFd::with_interest(socket, interest)
    }
}

#[cfg(not(unix))]
mod portable {
    use std::{io, sync::Arc};
    use tokio::{io::Interest, net::UdpSocket};

    /// A socket that can be waited for until something arrives.
    #[derive(Debug)]
    pub(in super::super) struct Readable(Arc<UdpSocket>);

    impl Readable {
        /// Takes a socket that does not block. Only within a runtime.
        pub(in super::super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
            UdpSocket::from_std(socket).map(|socket| Self(Arc::new(socket)))
        }

        pub(in super::super) fn socket(&self) -> &UdpSocket {
            &self.0
        }

        /// Reads as soon as it does not block. Cancel-safe.
        pub(in super::super) async fn read(
            &self,
            read: impl FnMut() -> io::Result<()>,
        ) -> io::Result<()> {
            self.0.async_io(Interest::READABLE, read).await
        }

        /// The same socket, to be waited for until there is room.
        pub(in super::super) fn writable(&self) -> io::Result<Writable> {
            Ok(Writable(self.0.clone()))
        }
    }

    /// A socket that can be waited for until there is room.
    #[derive(Debug)]
    pub(in super::super) struct Writable(Arc<UdpSocket>);

    impl Writable {
        /// Writes as soon as it does not block. Cancel-safe.
        pub(in super::super) async fn write(
            &self,
            write: impl FnMut() -> io::Result<()>,
        ) -> io::Result<()> {
            self.0.async_io(Interest::WRITABLE, write).await
        }
    }
}
