//! A whole daemon but the kernel, and the terminals that answer it.

use super::*;

pub(super) struct Gateway {
    pub config: Config,
    pub states: ServerStates,
    pub inputs: mpsc::Sender<Input>,
    journal: JournalMeasures,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    runtime: JoinHandle<anyhow::Result<()>>,
}

impl Gateway {
    /// Starts everything on a folder with certificates, where the journal lies too. Whatever it
    /// sends to a line is answered as a terminal with the key would.
    pub fn start(folder: &Path, port: u16, maps: &Maps) -> Self {
        let text = format!(
            r#"
id = "gw1"
state_dir = "state"
accounting_interval_ms = 200
[[access_port]]
name = "access0"
[[operator]]
name = "north-net"
uplink = "uplink0"
subscriber_prefixes = ["100.64.1.0/24"]
[operator.server]
url = "https://127.0.0.1:{port}"
server_name = "north-net"
ca = "ca.pem"
cert = "gw1.pem"
key = "gw1.key"
"#
        );
        let config = Config::parse(&folder.join("gateway.toml"), &text).expect("valid");
        let inventory =
            "location,port,s_vlan,c_vlan\n110103-xinjing-001-002-004,access0,101,1004\n";
        let port = |name: &str| (name == "access0").then_some(7);
        let inventory = Inventory::parse(Path::new("inventory.csv"), inventory, port);
        let settings = Settings {
            gateway_id: config.id.clone(),
            gateway_mac: GATEWAY,
            delegated_prefix_len: config.delegated_prefix_len,
            line_prefixes: config.line_prefixes,
            max_sessions: config.max_sessions,
            accounting_interval: Duration::from_millis(config.accounting_interval_ms),
            operators: config.operators.clone(),
            inventory: Arc::new(inventory.expect("valid")),
            garden: config.garden,
            ports: HashMap::from([(
                7,
                LinePort {
                    mtu: 1500,
                    shaper: true,
                },
            )]),
            is_traced: false,
        };
        let journal = Journal::open(&config.state_dir).expect("opens");
        let (sent, sent_frames) = mpsc::unbounded_channel();
        let transmit = Box::new(move |ifindex, frame: &[u8]| {
            assert_eq!(ifindex, 7);
            sent.send(frame.to_vec())
                .map_err(|_| io::Error::other("no terminal"))
        });
        let mut maps = maps.clone();
        let recovered = recover(settings, &journal, &mut maps, &port).expect("recovers");
        let (runtime, feeds) = Runtime::start(recovered, journal, maps, transmit).expect("starts");
        let Feeds { inputs, frames } = feeds;
        let stop = CancellationToken::new();
        let states = ServerStates::default();
        let journal = runtime.journal_measures();
        let client = Client {
            gateway_id: config.id.clone(),
            operator: config.operators[0].clone(),
            capacity: 64,
            events: inputs.clone(),
            states: states.clone(),
            network: Network::default(),
            uplink: Arc::new(String::new),
        };
        let tasks = vec![
            tokio::spawn(client.run(stop.clone())),
            tokio::spawn(terminal(sent_frames, frames)),
        ];
        Self {
            config,
            states,
            inputs,
            journal,
            runtime: tokio::spawn(runtime.run(stop.clone())),
            stop,
            tasks,
        }
    }

    /// Where it answers Prometheus from now on.
    pub async fn metrics(&mut self) -> SocketAddr {
        let listen = "127.0.0.1:0".parse().expect("an address");
        let metrics = Metrics::bind(metrics::Config { listen }).await;
        let metrics = metrics.expect("binds");
        let address = metrics.local_addr().expect("bound");
        let source = GatewayMetrics {
            config: self.config.clone(),
            uplinks: UplinkStates::default(),
            servers: self.states.clone(),
            inputs: self.inputs.clone(),
            journal: self.journal.clone(),
            started: std::time::Instant::now(),
        };
        let serving = metrics.serve(source, self.stop.clone());
        self.tasks.push(tokio::spawn(serving));
        address
    }

    pub async fn stop(self) {
        self.stop.cancel();
        let ended = timeout(PATIENCE, self.runtime).await.expect("in time");
        ended.expect("no panic").expect("no error");
        drop(self.inputs);
        for task in self.tasks {
            timeout(PATIENCE, task)
                .await
                .expect("in time")
                .expect("no panic");
        }
    }

    /// As if the power had gone.
    pub async fn kill(self) {
        self.runtime.abort();
        for task in &self.tasks {
            task.abort();
        }
        // The journal's file is free once the loop's remains are dropped.
        let _ = self.runtime.await;
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

pub(super) fn key() -> SessionKey {
    SessionKey::from_slice(&[7; 32]).expect("32 bytes")
}

/// Answers every request that it has the key for.
async fn terminal(mut sent: mpsc::UnboundedReceiver<Vec<u8>>, mut frames: FrameSender) {
    while let Some(bytes) = sent.recv().await {
        let parsed = frame::parse(&bytes).expect("a frame of the exchange");
        let session = session_of(parsed.payload).expect("a session");
        let Ok((_, body)) = open(parsed.payload, Direction::FromGateway, |_| Some(key())) else {
            continue;
        };
        if !matches!(body.message, Message::Request(_)) {
            continue;
        }
        let answer = Body {
            message: Message::Accept {
                terminal_mac: TERMINAL,
                replaces: None,
            },
            ..body
        };
        let envelope = Envelope::to_gateway(TERMINAL, GATEWAY, parsed.envelope.tags);
        let answer = Frame {
            line: LineKey {
                ifindex: 7,
                s_vid: 101,
                c_vid: 1004,
            },
            bytes: frame::build(&envelope, &seal(&key(), session, &answer)),
        };
        if !frames.offer(answer, std::time::Instant::now()) {
            return;
        }
    }
}
