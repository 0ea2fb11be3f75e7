//! A network of a test's own: loopback, and one address more, because there are programs that leave loopback out.

use std::process::Command;

use crate::tools;

/// The address beside loopback. Nobody else is in this network.
const ADDRESS: &str = "10.77.0.1/24";

/// A network namespace, which goes away with this value. What runs in it has all ports to itself, and reaches nothing else.
pub(crate) struct Network(String);

impl Network {
    /// Whether one can be made here; only root may.
    pub(crate) fn missing(who: &str) -> Option<String> {
        let name = format!("xtask-try-{}", std::process::id());
        let made = tools::succeeds(Command::new("ip").args(["netns", "add", &name]));
        drop(Self(name));
        (!made).then(|| {
            format!("{who} not run: it takes a network of its own (root, and iproute2 on Linux)")
        })
    }

    pub(crate) fn new(purpose: &str) -> Result<Self, String> {
        let network = Self(format!("xtask-{purpose}-{}", std::process::id()));
        let name = network.0.clone();
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let lines = [
            "link set lo up",
            "link add lan0 type veth peer name lan1",
            &format!("addr add {ADDRESS} dev lan0"),
            "link set lan0 up",
            "link set lan1 up",
        ];
        for line in lines {
            let mut command = Command::new("ip");
            run(command.args(["-n", &name]).args(line.split(' ')))?;
        }
        Ok(network)
    }

    /// A command that runs in it. Which file systems are mounted is its own affair as well.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, program]);
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // An error says that it was never made.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let shown = tools::shown(command);
    let output = command
        .output()
        .map_err(|error| format!("{shown}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{shown}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}
