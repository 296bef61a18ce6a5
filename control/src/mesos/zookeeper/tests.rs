use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use zookeeper_client::{Acls, CreateMode};

use super::*;

#[test]
fn the_lowest_sequence_leads_and_other_nodes_are_nothing() {
    let children = ["json.info_0000000012", "info_0000000001", "log_replicas", "json.info_0000000007", "json.info_x"];
    let children = children.map(str::to_owned).to_vec();
    assert_eq!(in_sequence(children), ["json.info_0000000007", "json.info_0000000012"]);
}

#[test]
fn a_master_is_asked_by_address_and_over_tls_by_name() {
    let info = br#"{"address":{"hostname":"m1.example","ip":"10.0.0.1","port":5050},"hostname":"m1","pid":"master@10.0.0.1:5050"}"#;
    let url = |data: &[u8], https| member(data, https).map(|(endpoint, url)| format!("{endpoint} {url}"));
    assert_eq!(url(info, false).unwrap(), "10.0.0.1:5050 http://10.0.0.1:5050");
    assert_eq!(url(info, true).unwrap(), "10.0.0.1:5050 https://m1.example:5050");
    assert_eq!(
        url(br#"{"pid":"master@[2001:db8::1]:5050"}"#, true).unwrap(),
        "[2001:db8::1]:5050 https://[2001:db8::1]:5050"
    );
    for garbage in [&b""[..], b"\xff\x00", b"{}", b"[]", b"{\"pid\":7}", b"{\"pid\":\"x\"}"] {
        assert_eq!(url(garbage, false), None, "{}", garbage.escape_ascii());
    }
}

/// Debian's ZooKeeper as an ordinary process on loopback, its data in a folder of its own.
struct Server {
    folder: PathBuf,
    port: u16,
    process: Child,
}

const START: &str = "/usr/share/zookeeper/bin/zkServer.sh";

impl Server {
    /// `None`, with a sentence, where it is not installed.
    fn start(name: &str) -> Option<Self> {
        if !Path::new(START).exists() {
            println!("skipped: {START} is not there: install Debian's zookeeper (packages.txt)");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("sluice-zk-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\ntickTime=1000\n",
            folder.display()
        );
        std::fs::write(folder.join("zoo.cfg"), config).unwrap();
        let process = Self::process(&folder);
        Some(Self { folder, port, process })
    }

    fn process(folder: &Path) -> Child {
        // It replaces itself by java: the process that is started here is the one to end.
        let mut command = Command::new(START);
        command
            .arg("start-foreground")
            .arg(folder.join("zoo.cfg"))
            .env("ZOO_LOG_DIR", folder)
            .env("JMXDISABLE", "true");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    fn restart(&mut self) {
        self.kill();
        self.process = Self::process(&self.folder);
    }

    fn url(&self, digest: Option<&str>) -> ZooKeeper {
        let servers = vec![format!("127.0.0.1:{}", self.port)];
        ZooKeeper { servers, path: "/mesos".into(), digest: digest.map(str::to_owned) }
    }

    /// A client of its own, once the server answers.
    async fn client(&self, digest: &str) -> Client {
        for _ in 0..300 {
            if let Ok(client) = connect(&self.url(Some(digest))).await {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("ZooKeeper does not start");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The first news from now on that `wanted` picks.
async fn next(news: &mut mpsc::Receiver<News>, wanted: impl Fn(&News) -> bool) -> News {
    let found = async {
        loop {
            let one = news.recv().await.unwrap();
            if wanted(&one) {
                return one;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.unwrap()
}

fn leads(port: u16) -> impl Fn(&News) -> bool {
    move |news| matches!(news, News::Masters(members) if members[0].0.port == port)
}

fn failed(news: &News) -> bool {
    matches!(news, News::Failed(_))
}

async fn register(client: &Client, data: &str) -> String {
    let options = CreateMode::PersistentSequential.with_acls(Acls::creator_all());
    let (_, sequence) = client.create("/mesos/json.info_", data.as_bytes(), &options).await.unwrap();
    format!("/mesos/json.info_{sequence}")
}

fn info(port: u16) -> String {
    format!(r#"{{"address":{{"ip":"10.0.0.1","port":{port}}}}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn masters_of_a_real_zookeeper_are_followed_through_elections_garbage_and_its_own_death() {
    let Some(mut server) = Server::start("masters") else { return };
    let client = server.client("mesos:secret").await;
    let (sender, mut news) = mpsc::channel(4);
    let _following = tokio::spawn(follow(server.url(Some("mesos:secret")), false, 0, sender));
    let News::Failed(sentence) = next(&mut news, failed).await else { unreachable!() };
    assert!(sentence.contains("no node /mesos") && !sentence.contains("secret"), "{sentence}");
    client.create("/mesos", b"", &CreateMode::Persistent.with_acls(Acls::creator_all())).await.unwrap();
    next(&mut news, |n| matches!(n, News::Failed(s) if s.contains("no master is registered"))).await;
    let first = register(&client, &info(5050)).await;
    next(&mut news, leads(5050)).await;
    register(&client, "\u{0}garbage").await;
    let second = register(&client, &info(5051)).await;
    let both = next(&mut news, |n| matches!(n, News::Masters(members) if members.len() == 2)).await;
    assert!(leads(5050)(&both));
    client.delete(&first, None).await.unwrap();
    next(&mut news, leads(5051)).await;
    // Whoever may not read is told so.
    let (sender, mut stranger) = mpsc::channel(4);
    let _strange = tokio::spawn(follow(server.url(Some("mesos:wrong")), false, 0, sender));
    let News::Failed(sentence) = next(&mut stranger, failed).await else { unreachable!() };
    assert!(sentence.contains("may not read /mesos") && !sentence.contains("wrong"), "{sentence}");
    drop(stranger);
    server.restart();
    let client = server.client("mesos:secret").await;
    client.delete(&second, None).await.unwrap();
    register(&client, &info(5052)).await;
    next(&mut news, leads(5052)).await;
}
