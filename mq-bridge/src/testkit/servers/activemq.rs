//! ActiveMQ with its STOMP connectors and a KahaDB store.

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use async_trait::async_trait;

use super::instance::{Instance, Recipe, Site, find, write};
use super::process::command;
use super::{ServerError, probe, test_server};

const NAME: &str = "ActiveMQ";
const REMEDY: &str = "Install Debian's packages activemq and libxstream-java";
const HOME: &str = "/usr/share/activemq";
/// What ActiveMQ's own distribution has, and Debian's package only suggests: without it no answer
/// of the statistics plugin can be sent over STOMP.
const XSTREAM: [&str; 2] = ["/usr/share/java/xstream.jar", "/usr/share/java/xpp3.jar"];

const STOMP: usize = 0;
const STOMP_NIO: usize = 1;

/// Quick to start, small, and without files outside the server's folder.
const JVM_OPTIONS: [&str; 5] =
    ["-Xmx512m", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData"];

/// As fast as it gets: with the compilers and the collector that the JVM chooses.
const JVM_OPTIONS_TO_MEASURE: [&str; 2] = ["-Xmx1g", "-XX:-UsePerfData"];

const LOGGING: &str = "\
log4j.rootLogger=INFO, console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d %-5p %c{1}: %m%n
";

/// An ActiveMQ server that speaks STOMP over TCP
#[derive(Debug)]
pub struct ActiveMq {
    pub(super) instance: Instance,
}

impl ActiveMq {
    /// Starts an empty server that lets everyone in.
    ///
    /// # Errors
    ///
    /// [`ServerError`] says what is missing, or shows the end of the server's log.
    pub async fn start() -> Result<Self, ServerError> {
        Self::start_with_users(&[]).await
    }

    /// Starts an empty server that lets in only these users, each a name and a password; everyone
    /// if there are none.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_with_users(users: &[(&str, &str)]) -> Result<Self, ServerError> {
        let users: Vec<(String, String)> =
            users.iter().map(|(name, password)| ((*name).into(), (*password).into())).collect();
        Self::launch(users, &JVM_OPTIONS).await
    }

    /// Starts an empty server that lets everyone in and takes its time to get fast: the others compile
    /// less, to be quick to start.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_to_measure() -> Result<Self, ServerError> {
        Self::launch(Vec::new(), &JVM_OPTIONS_TO_MEASURE).await
    }

    async fn launch(
        users: Vec<(String, String)>,
        jvm_options: &'static [&'static str],
    ) -> Result<Self, ServerError> {
        let recipe = || ActiveMqRecipe { users: users.clone(), jvm_options };
        Ok(Self { instance: Instance::launch(recipe).await? })
    }

    /// Its connector `stomp://`, with a thread for each connection.
    #[must_use]
    pub fn stomp_addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.instance.port(STOMP)).into()
    }

    /// Its connector `stomp+nio://`, with few threads for all connections.
    #[must_use]
    pub fn stomp_nio_addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.instance.port(STOMP_NIO)).into()
    }
}

test_server!(ActiveMq);

struct ActiveMqRecipe {
    users: Vec<(String, String)>,
    jvm_options: &'static [&'static str],
}

impl ActiveMqRecipe {
    fn configuration(&self, site: &Site<'_>) -> String {
        format!(
            r#"<beans xmlns="http://www.springframework.org/schema/beans"
       xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
       xsi:schemaLocation="
         http://www.springframework.org/schema/beans
         http://www.springframework.org/schema/beans/spring-beans-2.0.xsd
         http://activemq.apache.org/schema/core
         http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core"
          brokerName="test" useJmx="false" dataDirectory="{folder}/data">
    <persistenceAdapter>
      <kahaDB directory="{folder}/kahadb"/>
    </persistenceAdapter>
    <destinationPolicy>
      <policyMap>
        <policyEntries>
          <policyEntry queue="&gt;" persistJMSRedelivered="true"/>
        </policyEntries>
      </policyMap>
    </destinationPolicy>
    <plugins><statisticsBrokerPlugin/>{users}</plugins>
    <transportConnectors>
      <transportConnector name="stomp" uri="stomp://127.0.0.1:{stomp}"/>
      <transportConnector name="stomp+nio" uri="stomp+nio://127.0.0.1:{nio}"/>
    </transportConnectors>
  </broker>
</beans>
"#,
            folder = site.folder.display(),
            users = self.authentication(),
            stomp = site.ports[STOMP],
            nio = site.ports[STOMP_NIO],
        )
    }

    fn authentication(&self) -> String {
        if self.users.is_empty() {
            return String::new();
        }
        let mut users = String::new();
        for (name, password) in &self.users {
            let (name, password) = (attribute(name), attribute(password));
            let _infallible = write!(
                users,
                r#"<authenticationUser username="{name}" password="{password}" groups="users"/>"#
            );
        }
        format!("<simpleAuthenticationPlugin><users>{users}</users></simpleAuthenticationPlugin>")
    }
}

fn attribute(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[async_trait]
impl Recipe for ActiveMqRecipe {
    fn name(&self) -> &'static str {
        NAME
    }

    fn port_count(&self) -> usize {
        2
    }

    fn prepare(&self, site: &Site<'_>) -> Result<(), ServerError> {
        write(NAME, &site.folder.join("activemq.xml"), &self.configuration(site))?;
        write(NAME, &site.folder.join("log4j.properties"), LOGGING)
    }

    fn command(&self, site: &Site<'_>) -> Result<Command, ServerError> {
        let jar = find(NAME, Path::new(HOME).join("bin/activemq.jar"), REMEDY)?;
        let folder = site.folder.display();
        let xstream = XSTREAM.map(|jar| find(NAME, jar, REMEDY));
        let [xstream, xpp] = xstream;
        let more = format!("{}:{}", xstream?.display(), xpp?.display());
        let mut command = command(find(NAME, "java", REMEDY)?);
        command
            .args(self.jvm_options)
            .arg(format!("-Djava.io.tmpdir={folder}"))
            .arg(format!("-Dlog4j.configuration=file:{folder}/log4j.properties"))
            .arg(format!("-Dactivemq.home={HOME}"))
            .arg(format!("-Dactivemq.classpath={more}"))
            .args(["base", "conf", "data"].map(|place| format!("-Dactivemq.{place}={folder}")))
            .arg("-jar")
            .arg(jar)
            .args(["start", &format!("xbean:file:{folder}/activemq.xml")]);
        Ok(command)
    }

    async fn probe(&self, ports: &[u16]) -> io::Result<()> {
        let guest = (String::new(), String::new());
        let (login, passcode) = self.users.first().unwrap_or(&guest);
        probe::ask_stomp(ports[STOMP], login, passcode).await?;
        probe::ask_stomp(ports[STOMP_NIO], login, passcode).await
    }
}
