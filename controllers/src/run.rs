//! Runs everything: watches fill the caches, queues call rounds. To be started by the holder of the lease only.

use std::sync::Arc;
use std::time::Duration;

use ers_crds::conditions::{Condition, ConditionStatus, types};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::child::ChildKind;
use crate::metrics::{ConditionLabels, KindLabel};
use crate::queue::Next;
use crate::reconciler::Reconciler;
use crate::watches::{self, Reconcilers};
use crate::world::{Object, World};
use crate::{cluster_bindings, collector_target, report_policy};

/// Reconciles for as long as it is polled. Returns only when a task ends, which none does by itself.
pub async fn run(world: Arc<World>) {
    let reconciler = |kind| Arc::new(Reconciler::new(kind, world.client.clone(), Arc::clone(&world.metrics)));
    let policies = reconciler(report_policy::KIND);
    let targets = reconciler(collector_target::KIND);
    let both = Arc::new(Reconcilers { policies: Arc::clone(&policies), targets: Arc::clone(&targets) });
    let mut tasks = JoinSet::new();
    tasks.spawn(watches::policies(Arc::clone(&world), Arc::clone(&both)));
    tasks.spawn(watches::targets(Arc::clone(&world), both));
    tasks.spawn(watches::namespaces(Arc::clone(&world)));
    tasks.spawn(watches::nodes(Arc::clone(&world)));
    tasks.spawn(watches::stateful_sets(Arc::clone(&world)));
    tasks.spawn(watches::daemon_sets(Arc::clone(&world)));
    tasks.spawn(watches::deployments(Arc::clone(&world)));
    for kind in ChildKind::ALL {
        if !kind.is_workload() {
            tasks.spawn(watches::children(Arc::clone(&world), kind));
        }
    }
    tasks.spawn(rounds(Arc::clone(&world), policies, targets));
    // One that ends takes the others with it: half an operator would be worse than none.
    let ended = tasks.join_next().await;
    if let Some(Err(error)) = ended {
        tracing::error!(error = %error, "a task of the controllers ended");
    }
    tasks.shutdown().await;
}

async fn rounds(world: Arc<World>, policies: Arc<Reconciler>, targets: Arc<Reconciler>) {
    // Judging before everything is known would refuse or rebuild what is right.
    world.policies.wait_until_complete().await;
    world.targets.wait_until_complete().await;
    world.namespaces.wait_until_complete().await;
    world.nodes.wait_until_complete().await;
    world.children.wait_until_complete().await;
    tracing::info!(
        policies = world.policies.len(),
        targets = world.targets.len(),
        nodes = world.nodes.len(),
        "everything is known; reconciling"
    );
    world.binding_queue.add(());
    let policy_rounds = Arc::clone(&world.policy_queue).run(|key, waited| {
        let (world, reconciler) = (Arc::clone(&world), Arc::clone(&policies));
        measured(Arc::clone(&world), report_policy::KIND, waited, async move {
            report_policy::reconcile(&world, &reconciler, &key).await
        })
    });
    let target_rounds = Arc::clone(&world.target_queue).run(|key, waited| {
        let (world, reconciler) = (Arc::clone(&world), Arc::clone(&targets));
        measured(Arc::clone(&world), collector_target::KIND, waited, async move {
            collector_target::reconcile(&world, &reconciler, &key).await
        })
    });
    let binding_rounds = Arc::clone(&world.binding_queue).run(|(), waited| {
        let world = Arc::clone(&world);
        measured(Arc::clone(&world), cluster_bindings::KIND, waited, cluster_bindings::reconcile(world))
    });
    tokio::join!(policy_rounds, target_rounds, binding_rounds);
}

async fn measured(world: Arc<World>, kind: &'static str, waited: Duration, round: impl Future<Output = Next>) -> Next {
    let start = Instant::now();
    let next = round.await;
    world.metrics.observe_round(kind, waited, start.elapsed());
    next
}

/// Brings the gauges up to date; called when somebody asks for the metrics.
pub fn refresh_gauges(world: &World) {
    let metrics = &world.metrics;
    let depth = |kind, depth: usize| {
        let depth = i64::try_from(depth).unwrap_or(i64::MAX);
        metrics.queue_depth.get_or_create(&KindLabel { kind }).set(depth);
    };
    depth(report_policy::KIND, world.policy_queue.depth());
    depth(collector_target::KIND, world.target_queue.depth());
    depth(cluster_bindings::KIND, world.binding_queue.depth());
    let cached = |kind, count: usize| {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        metrics.cached.get_or_create(&KindLabel { kind }).set(count);
    };
    cached(report_policy::KIND, world.policies.len());
    cached(collector_target::KIND, world.targets.len());
    cached("Node", world.nodes.len());
    cached("Namespace", world.namespaces.len());
    for kind in ChildKind::ALL {
        cached(kind.as_str(), world.children.cache(kind).len());
    }
    let policies = world.policies.all();
    let of_policies = policies
        .iter()
        .map(|(_, object)| conditions_of(object, |policy| policy.status.as_ref().map(|status| &*status.conditions)));
    count(world, report_policy::KIND, of_policies);
    let targets = world.targets.all();
    let of_targets = targets
        .iter()
        .map(|(_, object)| conditions_of(object, |target| target.status.as_ref().map(|status| &*status.conditions)));
    count(world, collector_target::KIND, of_targets);
}

/// `None` for an object that cannot be read.
fn conditions_of<K>(object: &Object<K>, get: impl Fn(&K) -> Option<&[Condition]>) -> Option<&[Condition]> {
    match object {
        Object::Readable(object) => Some(get(object).unwrap_or_default()),
        Object::Unreadable { .. } => None,
    }
}

fn count<'a>(world: &World, kind: &'static str, objects: impl Iterator<Item = Option<&'a [Condition]>> + Clone) {
    let undecodable = objects.clone().filter(Option::is_none).count();
    let number = i64::try_from(undecodable).unwrap_or(i64::MAX);
    world.metrics.undecodable.get_or_create(&KindLabel { kind }).set(number);
    for condition in types::OF_OPERATOR {
        for status in [ConditionStatus::True, ConditionStatus::False, ConditionStatus::Unknown] {
            let holds = |conditions: &&[Condition]| {
                conditions.iter().any(|found| found.type_ == condition && found.status == status)
            };
            let number = objects.clone().flatten().filter(|conditions| holds(conditions)).count();
            let label = ConditionLabels { kind, condition, status: status.as_str() };
            world.metrics.objects.get_or_create(&label).set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }
}
