//! The rows of the matrix: who makes the container, where origin and client are, and by what the client calls.

/// Who makes a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Docker,
    Mesos,
    /// Mesos's containerizer, asked for a command and no image.
    None,
    Pod,
}

/// A task's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Net {
    Host,
    Bridge,
    /// The overlay.
    User,
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    Name,
    Address,
}

/// One request of the matrix; origin and client are of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) origin: Net,
    pub(crate) client: Net,
    pub(crate) same_agent: bool,
    pub(crate) by: By,
}

pub(crate) const KINDS: [Kind; 4] = [Kind::Docker, Kind::Mesos, Kind::None, Kind::Pod];
pub(crate) const NETS: [Net; 3] = [Net::Host, Net::Bridge, Net::User];
pub(crate) const BYS: [By; 2] = [By::Name, By::Address];

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Mesos => "mesos",
            Self::None => "none",
            Self::Pod => "pod",
        }
    }
}

impl Net {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Bridge => "bridge",
            Self::User => "user",
        }
    }
}

impl By {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Address => "address",
        }
    }
}

/// Every kind and network of an origin.
pub(crate) fn origins() -> impl Iterator<Item = (Kind, Net)> {
    KINDS.into_iter().flat_map(|kind| NETS.into_iter().map(move |net| (kind, net)))
}

/// All of them.
pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (kind, origin) in origins() {
        for client in NETS {
            for same_agent in [true, false] {
                rows.extend(BYS.map(|by| Row { kind, origin, client, same_agent, by }));
            }
        }
    }
    rows
}
