//! How a program is asked to end.

#[cfg(unix)]
use tokio::signal::unix::{self, Signal, SignalKind};

/// How a program is asked to end: Ctrl-C, and on Unix SIGTERM of whoever manages processes. A terminal that is closed (SIGHUP)
/// stays what it was, as who starts a program by nohup has it ignored.
#[derive(Debug)]
pub struct Stop(#[cfg(unix)] [Signal; 2]);

impl Stop {
    /// From now on neither ends the program by itself; elsewhere than on Unix from the first [`asked`](Self::asked) on. Must be
    /// called inside tokio's runtime.
    ///
    /// # Errors
    /// Of the operating system.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self(
            #[cfg(unix)]
            [
                unix::signal(SignalKind::interrupt())?,
                unix::signal(SignalKind::terminate())?,
            ],
        ))
    }

    /// Waits until somebody asks for it, again each time that it is called.
    #[cfg(unix)]
    pub async fn asked(&mut self) {
        let [interrupt, terminate] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }

    /// Waits until somebody asks for it, again each time that it is called.
    #[cfg(not(unix))]
    pub async fn asked(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            // Nobody can ask.
            std::future::pending::<()>().await;
        }
    }
}
