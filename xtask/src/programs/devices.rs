//! A call to all devices of an account (XEP-0353): one answers, or declines, and the other hears who.

use super::Place;
use crate::lab::{self, DOMAIN, Process, Prosody};
use std::process::Command;

pub(super) fn all(place: &Place) -> Result<String, String> {
    let server = place.server("", "")?;
    answered(place, &server)?;
    declined(place, &server)?;
    Ok("answered elsewhere, declined elsewhere".to_owned())
}

fn answered(place: &Place, server: &Prosody) -> Result<(), String> {
    let mut devices = devices(place, server, &[])?;
    let mut romeo = dial(place, server, &["--for", "2"])?;
    let ends = devices.each_mut().map(Process::wait);
    let [desk, phone] = &devices;
    let told = lab::event(&desk.said(), "problem").unwrap_or_default();
    let by = told["why"].as_str().unwrap_or_default();
    let fits = ends == [Ok(1), Ok(0)] && told["code"] == "answered-elsewhere";
    if romeo.wait()? != 0 || !fits || !by.contains("juliet@localhost/phone") {
        return Err(all_said("answered elsewhere", &romeo, desk, phone));
    }
    Ok(())
}

fn declined(place: &Place, server: &Prosody) -> Result<(), String> {
    let mut devices = devices(place, server, &["--decline"])?;
    let mut romeo = dial(place, server, &[])?;
    let ends = devices.each_mut().map(Process::wait);
    let [desk, phone] = &devices;
    let code = |process: &Process| {
        lab::event(&process.said(), "problem").unwrap_or_default()["code"].clone()
    };
    let fits = ends == [Ok(1), Ok(0)] && code(desk) == "declined-elsewhere";
    if romeo.wait()? != 4 || !fits || code(&romeo) != "declined" {
        return Err(all_said("declined elsewhere", &romeo, desk, phone));
    }
    Ok(())
}

/// Two devices of Juliet's: one that rings for long, and one that soon does as it is told.
fn devices(place: &Place, server: &Prosody, words: &[&str]) -> Result<[Process; 2], String> {
    let mut desk = device(place, server, "juliet/desk", &["answer", "--after", "60"])?;
    let words = [&["answer", "--after", "1"], words].concat();
    let mut phone = device(place, server, "juliet/phone", &words)?;
    desk.hear("\"waiting\"")?;
    phone.hear("\"waiting\"")?;
    Ok([desk, phone])
}

fn dial(place: &Place, server: &Prosody, words: &[&str]) -> Result<Process, String> {
    let to = format!("juliet@{DOMAIN}");
    device(
        place,
        server,
        "romeo/here",
        &[&["dial", &to], words].concat(),
    )
}

/// Runs `call` as a device such as `juliet/phone`.
fn device(place: &Place, server: &Prosody, who: &str, words: &[&str]) -> Result<Process, String> {
    let (user, resource) = who.split_once('/').ok_or("no device")?;
    let mut account = server.account(user);
    account.extend(["--jid".to_owned(), format!("{user}@{DOMAIN}/{resource}")]);
    // What stands twice is refused.
    account.drain(..2);
    let name = format!("{user}-{resource}");
    let mut command = Command::new(&place.call);
    command.args(words).args(account).arg("--json");
    command
        .arg("--play")
        .arg(place.path(&format!("{user}.wav")));
    command
        .arg("--record")
        .arg(place.path(&format!("{name}.heard.wav")));
    Process::start(&name, place.folder.path(), &mut command)
}

fn all_said(what: &str, romeo: &Process, desk: &Process, phone: &Process) -> String {
    let said = [romeo, desk, phone].map(Process::said);
    let [romeo, desk, phone] = said;
    format!("{what}: romeo: {romeo}\ndesk: {desk}\nphone: {phone}")
}
