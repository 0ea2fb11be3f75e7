//! What the NATs do, as nftables rules.

/// What a router does with mappings and with what comes in (RFC 4787); the last lets no UDP through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nat {
    /// None: the host is public.
    None,
    /// Endpoint-independent filtering.
    Full,
    /// Address-dependent filtering.
    Address,
    /// Address- and port-dependent filtering.
    Port,
    /// Another port for each destination.
    Symmetric,
    /// No UDP.
    Blocked,
}

/// Unsolicited datagrams to the router itself are dropped before connection tracking confirms them: otherwise the entry
/// would occupy the port, and the flow out would get another (a cone would look symmetric to who opens simultaneously).
const NO_INPUT: &str =
    "chain input { type filter hook input priority 0; iifname \"pub0\" meta l4proto udp drop; }";
const MASQUERADE: &str =
    "chain out { type nat hook postrouting priority 100; oifname \"pub0\" masquerade; }";

impl Nat {
    pub(super) const ALL: [Self; 6] = [
        Self::None,
        Self::Full,
        Self::Address,
        Self::Port,
        Self::Symmetric,
        Self::Blocked,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Full => "full",
            Self::Address => "addr",
            Self::Port => "port",
            Self::Symmetric => "sym",
            Self::Blocked => "blocked",
        }
    }

    /// Whether theory finds a way without a relay: a symmetric NAT's port is unknown to who filters by port, and to
    /// another symmetric one.
    pub(super) fn meet_directly(nats: [Self; 2]) -> bool {
        let filters = |nat| matches!(nat, Self::Port | Self::Symmetric);
        let [a, b] = nats;
        let symmetric = nats.contains(&Self::Symmetric) && filters(a) && filters(b);
        !nats.contains(&Self::Blocked) && !symmetric
    }

    /// The rules of a router in front of this host.
    pub(super) fn rules(self, host: &str) -> String {
        let chains = match self {
            Self::None => NO_INPUT.to_owned(),
            Self::Full => format!(
                "map owner {{ type inet_service : ipv4_addr; flags dynamic,timeout; timeout 120s; }}
                {NO_INPUT}
                chain forward {{ type filter hook forward priority 0;
                  iifname \"lan0\" oifname \"pub0\" meta l4proto udp update @owner {{ udp sport : ip saddr }}; }}
                chain in {{ type nat hook prerouting priority -100;
                  iifname \"pub0\" meta l4proto udp dnat ip to udp dport map @owner; }}
                {MASQUERADE}"
            ),
            Self::Address => format!(
                "set seen {{ type ipv4_addr . inet_service; flags dynamic,timeout; timeout 120s; }}
                {NO_INPUT}
                chain forward {{ type filter hook forward priority 0;
                  iifname \"lan0\" oifname \"pub0\" meta l4proto udp update @seen {{ ip daddr . udp sport }}; }}
                chain in {{ type nat hook prerouting priority -100;
                  iifname \"pub0\" meta l4proto udp ip saddr . udp dport @seen dnat to {host}; }}
                {MASQUERADE}"
            ),
            Self::Port => format!("{NO_INPUT}\n{MASQUERADE}"),
            Self::Symmetric => format!(
                "{NO_INPUT}
                chain out {{ type nat hook postrouting priority 100; oifname \"pub0\" masquerade fully-random; }}"
            ),
            Self::Blocked => format!(
                "{NO_INPUT}
                chain forward {{ type filter hook forward priority 0; meta l4proto udp drop; }}
                {MASQUERADE}"
            ),
        };
        format!("table ip natlab {{\n{chains}\n}}\n")
    }
}
