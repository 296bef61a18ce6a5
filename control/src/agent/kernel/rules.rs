//! Rules of the kernel's routing policy, as [`super::routes`] has routes.

use std::collections::BTreeSet;

use futures_util::TryStreamExt as _;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rtnetlink::IpVersion;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleHeader, RuleMessage};

use super::{AGENT, Kernel};
use crate::agent::plan::Rule;
use crate::netlink::{NetlinkError, Tried, unless};

impl Kernel {
    pub(super) async fn rules(&self, wanted: &BTreeSet<Rule>) -> Result<usize, NetlinkError> {
        let mut there = Vec::new();
        for family in [IpVersion::V4, IpVersion::V6] {
            let mut listed = self.handle.rule().get(family).execute();
            while let Some(message) = listed.try_next().await.tried(|| "list rules".into())? {
                there.extend(read_rule(&message).map(|rule| (rule, message)));
            }
        }
        let known: BTreeSet<Rule> = there.iter().map(|(rule, _)| rule.clone()).collect();
        let mut changes = 0;
        for rule in wanted.difference(&known) {
            let mut request = self.handle.rule().add().priority(rule.priority);
            request.message_mut().header = rule_header(rule);
            request.message_mut().attributes.extend(rule_attributes(rule));
            unless(request.execute().await, &[libc::EEXIST]).tried(|| format!("do `{rule}`"))?;
            changes += 1;
        }
        for (_, message) in there.into_iter().filter(|(rule, _)| !wanted.contains(rule)) {
            let removed = self.handle.rule().del(message).execute().await;
            unless(removed, &[libc::ENOENT]).tried(|| "remove a rule of ours".into())?;
            changes += 1;
        }
        Ok(changes)
    }
}

fn rule_header(rule: &Rule) -> RuleHeader {
    RuleHeader {
        family: if rule.from.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 },
        src_len: rule.from.prefix_len(),
        action: RuleAction::ToTable,
        ..RuleHeader::default()
    }
}

fn rule_attributes(rule: &Rule) -> impl Iterator<Item = RuleAttribute> {
    let from = (rule.from.prefix_len() > 0).then(|| RuleAttribute::Source(rule.from.network()));
    let iif = rule.iif.clone().map(RuleAttribute::Iifname);
    let ours = RuleAttribute::Protocol(RouteProtocol::from(AGENT));
    let table = RuleAttribute::Table(rule.table);
    [Some(ours), Some(table), from, iif].into_iter().flatten()
}

/// A rule of an agent's.
fn read_rule(message: &RuleMessage) -> Option<Rule> {
    let is_six = message.header.family == AddressFamily::Inet6;
    let any = if is_six { IpNet::V6(Ipv6Net::default()) } else { IpNet::V4(Ipv4Net::default()) };
    let mut rule = Rule { priority: 0, from: any, iif: None, table: u32::from(message.header.table) };
    let mut ours = false;
    for attribute in &message.attributes {
        if let RuleAttribute::Priority(priority) = attribute {
            rule.priority = *priority;
        } else if let RuleAttribute::Source(ip) = attribute {
            rule.from = IpNet::new(*ip, message.header.src_len).ok()?;
        } else if let RuleAttribute::Iifname(name) = attribute {
            rule.iif = Some(name.clone());
        } else if let RuleAttribute::Table(table) = attribute {
            rule.table = *table;
        } else if let RuleAttribute::Protocol(protocol) = attribute {
            ours = *protocol == RouteProtocol::from(AGENT);
        }
    }
    ours.then_some(rule)
}
