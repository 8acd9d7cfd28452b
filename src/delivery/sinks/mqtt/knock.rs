//! Looks whether a broker takes a connection, and publishes nothing there.

use rumqttc::{AsyncClient, Event, Incoming};
use tokio::time::timeout;

use super::link;
use crate::delivery::sinks::spec::MqttTarget;
use crate::http::causes;

/// Connects once as the sink would, under another client id: the broker would close the
/// connection of a daemon that runs with the same prefix. Ends when the broker has
/// taken or refused it; the caller bounds the time.
pub(in crate::delivery::sinks) async fn knock(target: &MqttTarget) -> Result<(), String> {
    let options =
        link::options_to_look(target).map_err(|error| format!("TLS is not possible: {error}"))?;
    let built = AsyncClient::builder(options).capacity(1).try_build();
    let (client, mut events) = built.map_err(|error| causes(&error))?;
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => break,
            Ok(_) => {}
            Err(error) => return Err(link::said(&error)),
        }
    }
    // Without a will there is nothing for the broker to publish, also if the goodbye is
    // lost.
    if client.try_disconnect_now().is_ok() {
        let goodbye = async { while events.poll().await.is_ok() {} };
        let _ = timeout(link::FAREWELL, goodbye).await;
    }
    Ok(())
}
