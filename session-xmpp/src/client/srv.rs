//! Where DNS says that a server is: RFC 2782 by way of RFC 6120 §3.2.1 and XEP-0368.

use super::{
    LoginError,
    connect::{Target, fallback},
};
use hickory_resolver::{TokioResolver, proto::rr::RData};

/// The most records of one kind that are looked at.
const RECORDS_MAX: usize = 16;

/// A record, as far as the order goes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    priority: u16,
    weight: u16,
    target: Target,
}

/// Where to try, in this order.
///
/// # Errors
/// [`LoginError::UnknownHost`] when the domain says that it has no such service.
pub(super) async fn targets(domain: &str) -> Result<Vec<Target>, LoginError> {
    // Without a resolver there may still be a hosts file.
    let Ok(resolver) = TokioResolver::builder_tokio().and_then(|builder| builder.build()) else {
        return Ok(vec![fallback(domain)]);
    };
    let lookup = async |service: &str, direct_tls: bool| {
        let name = format!("{service}._tcp.{domain}.");
        let Ok(found) = resolver.srv_lookup(name).await else {
            return Vec::new();
        };
        let records = found.answers().iter().filter_map(|record| {
            let RData::SRV(srv) = &record.data else {
                return None;
            };
            Some(Record {
                priority: srv.priority,
                weight: srv.weight,
                target: Target {
                    host: srv.target.to_ascii(),
                    port: srv.port,
                    direct_tls,
                },
            })
        });
        records.take(RECORDS_MAX).collect()
    };
    let (direct, starttls) =
        tokio::join!(lookup("_xmpps-client", true), lookup("_xmpp-client", false));
    let mut random = || {
        let mut bytes = [0; 4];
        super::driver::random(&mut bytes);
        u32::from_le_bytes(bytes)
    };
    order(domain, [direct, starttls].concat(), &mut random)
}

/// By priority, and among equals by chance, in proportion to the weights (RFC 2782). Both services count as one
/// (XEP-0368 §5).
fn order(
    domain: &str,
    records: Vec<Record>,
    random: &mut dyn FnMut() -> u32,
) -> Result<Vec<Target>, LoginError> {
    if records.is_empty() {
        return Ok(vec![fallback(domain)]);
    }
    let mut left: Vec<Record> = records
        .into_iter()
        .filter(|record| record.target.host != ".")
        .collect();
    if left.is_empty() {
        return Err(LoginError::UnknownHost {
            domain: domain.into(),
            why: "it says that it has no such service".into(),
        });
    }
    let mut targets = Vec::new();
    while let Some(least) = left.iter().map(|record| record.priority).min() {
        let total = left.iter().filter(|record| record.priority == least);
        let total: u64 = total.map(|record| u64::from(record.weight)).sum();
        let mut pick = u64::from(random()) % (total + 1);
        let at = left.iter().position(|record| {
            if record.priority != least {
                return false;
            }
            let taken = u64::from(record.weight) >= pick;
            pick = pick.saturating_sub(u64::from(record.weight));
            taken
        });
        targets.push(left.swap_remove(at.unwrap_or_default()).target);
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(priority: u16, weight: u16, host: &str) -> Record {
        Record {
            priority,
            weight,
            target: Target {
                host: host.to_owned(),
                port: 5222,
                direct_tls: false,
            },
        }
    }

    fn hosts(records: &[Record], random: u32) -> Vec<String> {
        let targets = order("d", records.to_vec(), &mut || random).unwrap();
        targets.into_iter().map(|target| target.host).collect()
    }

    #[test]
    fn priorities_come_before_weights() {
        let records = [
            record(20, 0, "last"),
            record(10, 1, "light"),
            record(10, 9, "heavy"),
        ];
        assert_eq!(hosts(&records, 0), ["light", "heavy", "last"]);
        assert_eq!(hosts(&records, 5), ["heavy", "light", "last"]);
        let mut first = 0;
        for random in 0..11 {
            first += u32::from(hosts(&records, random)[0] == "heavy");
        }
        assert_eq!(first, 9, "in proportion");
    }

    #[test]
    fn no_record_and_no_service_are_two_things() {
        assert_eq!(hosts(&[], 0), ["d"]);
        let refused = order("d", vec![record(0, 0, ".")], &mut || 0);
        assert!(matches!(refused, Err(LoginError::UnknownHost { .. })));
        assert_eq!(hosts(&[record(0, 0, "."), record(1, 0, "a")], 7), ["a"]);
    }
}
