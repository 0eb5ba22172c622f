//! Why pods are not ready, in a few words for a condition's message: whoever waits should not have to look further.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::ListParams;
use kube::{Api, Client};

use crate::error::message_of;

/// Most pods that are looked at; the first trouble is enough.
const MOST_PODS: u32 = 20;

/// `pod reporting-server-0: container server: ImagePullBackOff`, of the first pod that says something. `selector` are the
/// labels of the pods.
pub async fn first(client: &Client, namespace: &str, selector: &str) -> Option<String> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let params = ListParams::default().labels(selector).limit(MOST_PODS);
    match api.list(&params).await {
        Ok(pods) => pods.items.iter().find_map(of),
        Err(error) => Some(format!("the pods cannot be listed: {}", message_of(&error))),
    }
}

/// Pure. Says nothing that changes while the trouble stays the same, such as the length of a back-off.
fn of(pod: &Pod) -> Option<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let conditions = status.conditions.as_deref().unwrap_or_default();
    if let Some(scheduled) = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False") {
        return Some(format!("pod {name} is not scheduled: {}", scheduled.message.as_deref().unwrap_or_default()));
    }
    let init = status.init_container_statuses.as_deref().unwrap_or_default();
    let main = status.container_statuses.as_deref().unwrap_or_default();
    let (container, trouble) = init.iter().chain(main).find_map(|found| Some((&found.name, of_container(found)?)))?;
    Some(format!("pod {name}: container {container}: {trouble}"))
}

fn of_container(status: &ContainerStatus) -> Option<String> {
    let exit = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        let ended = state.as_ref()?.terminated.as_ref().filter(|ended| ended.exit_code != 0)?;
        Some(format!("{} with exit code {}", ended.reason.as_deref().unwrap_or("ended"), ended.exit_code))
    };
    let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref()?.reason.clone());
    match waiting.as_deref() {
        // On the way, and nothing wrong with it.
        Some("ContainerCreating" | "PodInitializing") | None => exit(&status.state),
        // The kubelet changes between the two for the same trouble.
        Some("ErrImagePull" | "ImagePullBackOff") => Some(format!("image {} cannot be pulled", status.image)),
        Some("CrashLoopBackOff") => {
            let last = exit(&status.last_state).unwrap_or_else(|| "it ends again and again".to_owned());
            Some(format!("CrashLoopBackOff, {last}"))
        }
        Some(reason) => Some(reason.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(status: Value, expect: Option<&str>) {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).expect("pod");
        assert_eq!(of(&pod).as_deref(), expect);
    }

    fn container(state: Value, last: Value) -> Value {
        json!({"containerStatuses": [{
            "name": "agent", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state, "lastState": last,
        }]})
    }

    #[test]
    fn trouble_is_told_in_a_few_words() {
        let pull = json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off 10s"}});
        check(container(pull, json!({})), Some("pod p: container agent: image i cannot be pulled"));
        let crash = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}});
        let ended = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
        check(container(crash, ended), Some("pod p: container agent: CrashLoopBackOff, Error with exit code 1"));
        let pending =
            json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: too small"}]});
        check(pending, Some("pod p is not scheduled: 0/1 nodes: too small"));
    }

    #[test]
    fn a_pod_on_its_way_has_none() {
        check(container(json!({"waiting": {"reason": "ContainerCreating"}}), json!({})), None);
        check(container(json!({"running": {}}), json!({})), None);
        check(json!({}), None);
    }
}
