//! Claims of labels into services: which address each is for, who has a VIP that is not shared, and what of two apps'
//! words on one service holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sluice_config::model::{Mode, Service, Sharing, VipKey};

use super::backends::Candidate;
use super::claims::Claims;
use super::draft::{Draft, Holder};
use super::services::{Claim, Wanted};
use super::{Cluster, Report, health};
use crate::rejected::{Rejected, shown};

/// What all claims are held against.
struct Known<'a> {
    cluster: &'a Cluster<'a>,
    claims: &'a Claims,
    /// Whose the addresses of the named ranges are, idle claims included.
    names: BTreeMap<IpAddr, String>,
}

/// Joins the claims, in the order that decides, to the services that are there.
pub(super) fn join(
    cluster: &Cluster<'_>,
    wanted: Vec<Claim<'_>>,
    claims: &Claims,
    drafts: &mut BTreeMap<VipKey, Draft>,
    report: &mut Report,
) {
    // Who asks for no address meets no other name's.
    let asks = wanted.iter().any(|claim| matches!(claim.wanted, Wanted::Address(_)));
    let names = if asks { names(cluster, claims, report) } else { BTreeMap::new() };
    let known = Known { cluster, claims, names };
    for mut claim in wanted {
        for (ip, candidates) in known.places(&mut claim, report) {
            known.add(&claim, ip, candidates, drafts, report);
        }
    }
}

fn names(cluster: &Cluster<'_>, claims: &Claims, report: &Report) -> BTreeMap<IpAddr, String> {
    let vip = &cluster.config.vip;
    let idle = claims.named.iter().filter(|(_, claim)| vip.named.contains(&claim.holds));
    let idle6 = claims.named6.iter().filter(|(_, claim)| vip.named6.contains(&claim.holds));
    let mut names: BTreeMap<IpAddr, String> = BTreeMap::new();
    names.extend(idle.map(|(name, claim)| (IpAddr::V4(claim.holds), name.clone())));
    names.extend(idle6.map(|(name, claim)| (IpAddr::V6(claim.holds), name.clone())));
    names.extend(report.named.iter().map(|(name, ip)| (IpAddr::V4(*ip), name.clone())));
    names.extend(report.named6.iter().map(|(name, ip)| (IpAddr::V6(*ip), name.clone())));
    names
}

const FULL: &str = "every address of its family from vip.named_min to vip.named_max, or vip.named6_min to \
                    vip.named6_max, is taken";

impl Known<'_> {
    /// The addresses that a claim is for, each with the backends that go there: a name has one of each family.
    fn places(&self, claim: &mut Claim<'_>, report: &mut Report) -> Vec<(IpAddr, Vec<Candidate>)> {
        let candidates = std::mem::take(&mut claim.candidates);
        let (four, six): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|c| c.backend.address.is_ipv4());
        match &claim.wanted {
            Wanted::Address(ip) => {
                // Whoever wants to share a named VIP says its name: an address would be a way into somebody else's.
                if let Some(name) = self.names.get(ip) {
                    claim.refuse(format!("{ip} is the address of the named VIP {name}"), report);
                    return Vec::new();
                }
                let (own, other) = if ip.is_ipv4() { (four, six) } else { (six, four) };
                // A task counts once: its address of the other family is for those that have no other. Whether that
                // can be reached the service's mode decides.
                vec![(*ip, if own.is_empty() { other } else { own })]
            }
            Wanted::Name(name) => {
                let ip = report.named.get(name).copied().map(IpAddr::V4);
                let ip6 = report.named6.get(name).copied().map(IpAddr::V6);
                // The service is there for as long as the app is, with or without a backend.
                if (ip.is_none() && ip6.is_none())
                    || (ip.is_none() && !four.is_empty())
                    || (ip6.is_none() && !six.is_empty())
                {
                    claim.refuse(FULL, report);
                }
                let places = [(ip, four), (ip6, six)];
                places.into_iter().filter_map(|(ip, candidates)| Some((ip?, candidates))).collect()
            }
        }
    }

    fn add(
        &self,
        claim: &Claim<'_>,
        ip: IpAddr,
        candidates: Vec<Candidate>,
        drafts: &mut BTreeMap<VipKey, Draft>,
        report: &mut Report,
    ) {
        let key = VipKey { protocol: claim.protocol, ip, port: claim.port };
        let holder = drafts.get(&key).map_or_else(|| self.holder(claim, &key), |draft| draft.holder.clone());
        if self.cluster.config.vip.sharing == Sharing::Owner && !is_owner(claim, &holder) {
            let reason = format!("{key} is {}'s, and vip.sharing is \"owner\"", whose(&holder));
            return claim.refuse(reason, report);
        }
        let draft = drafts.entry(key).or_insert_with(|| self.draft(claim, key, holder));
        draft.apps.insert((claim.source, claim.task.app.clone()));
        one_mode(claim, &key, draft, report);
        let service = &mut draft.service;
        if let (None, Wanted::Name(name)) = (&service.name, &claim.wanted) {
            service.name = Some(name.clone());
        }
        if service.framework.is_none() {
            service.framework = Some(claim.framework.to_owned());
        }
        draft.let_in(&claim.groups);
        if let Some(probe) = &claim.probe
            && let Err(reason) = health::join(draft, &self.cluster.config.health.check, probe)
        {
            report.reject(Rejected::new(&claim.task.id, health::KEY, &probe.to_string(), reason));
        }
        candidates.into_iter().for_each(|c| draft.add(c));
    }

    /// Whose a service is that nobody has claimed in this round.
    fn holder(&self, claim: &Claim<'_>, key: &VipKey) -> Holder {
        let recorded = match self.cluster.config.vip.sharing {
            Sharing::Owner => self.claims.owners.get(&key.to_string()).map(|c| c.holds.clone()),
            Sharing::Union => None,
        };
        Holder::App(recorded.unwrap_or_else(|| claim.owner()))
    }

    fn draft(&self, claim: &Claim<'_>, key: VipKey, holder: Holder) -> Draft {
        let vip = &self.cluster.config.vip;
        Draft {
            holder,
            service: Service { mode: claim.mode, empty: vip.empty, ..Service::plain(key, Vec::new()) },
            candidates: BTreeMap::new(),
            groups: None,
            apps: BTreeSet::new(),
        }
    }
}

fn is_owner(claim: &Claim<'_>, holder: &Holder) -> bool {
    match holder {
        Holder::Configuration => false,
        Holder::App(owner) => owner.app == claim.task.app && owner.framework == claim.framework,
    }
}

fn whose(holder: &Holder) -> String {
    match holder {
        Holder::Configuration => "a [[service]] of the configuration".to_owned(),
        Holder::App(owner) => format!("the app {} of {}", shown(&owner.app), shown(&owner.framework)),
    }
}

/// A service has one mode: the first app's, or the configuration's.
fn one_mode(claim: &Claim<'_>, key: &VipKey, draft: &Draft, report: &mut Report) {
    let mode: Mode = draft.service.mode;
    let said = claim.mode != mode && draft.holder != Holder::Configuration;
    if said {
        let reason = format!(
            "SLUICE_MODE {} of this app does not hold: {key} is {} by the word of {}",
            claim.mode.name(),
            mode.name(),
            whose(&draft.holder)
        );
        claim.refuse(reason, report);
    }
}
