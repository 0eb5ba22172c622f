//! CollectorTarget: five steps, always the same: dereference, validate, build, apply, status.

mod apply;
pub mod build;
mod dereference;
mod proof;
mod status;
mod validate;

use ers_crds::validate::ValidatedCollectorTarget;
use ers_crds::{CollectorTarget, CollectorTargetSpec, ManagementState};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::cache::Key;
use crate::child::{Applied, Owner, Prepared, Resources};
use crate::error::Class;
use crate::judge::{Refusal, Verdict};
use crate::metrics::ErrorLabels;
use crate::programmed::Words;
use crate::queue::Next;
use crate::reconciler::{AFTER_BUG, Reconciler, UNSEEN_CHANGE};
use crate::world::{Object, World};

/// Name of the kind, in labels and field managers.
pub const KIND: &str = "CollectorTarget";

/// What is in force: the newest accepted specification, and the policy whose server takes the samples.
pub(crate) struct InForce {
    target: ValidatedCollectorTarget,
    spec: CollectorTargetSpec,
    policy: String,
    generation: i64,
}

/// What came of the writes.
pub(crate) enum Outcome {
    /// Nothing in force, or held: nothing was to be written.
    Untouched,
    /// A permission is gone, and with it the agents.
    Revoked,
    /// What would be written, one line for each child.
    DryRun(Vec<String>),
    Done(Resources<Applied>),
    Failed {
        message: String,
    },
}

impl Outcome {
    fn words(&self) -> Words {
        match self {
            Outcome::Untouched | Outcome::Revoked => Words::Untouched,
            Outcome::DryRun(lines) => Words::DryRun(lines.clone()),
            Outcome::Done(resources) => Words::Done { children: resources.children.len() },
            Outcome::Failed { message } => Words::Failed(message.clone()),
        }
    }
}

/// One round for one target.
pub async fn reconcile(world: &World, reconciler: &Reconciler, key: &Key) -> Next {
    let Some(object) = world.targets.get(key) else {
        // Its right may be one that a held target kept and nobody judged.
        world.grants.remove(key);
        world.binding_queue.add(());
        return Next::OnChange;
    };
    let metadata = object.metadata().clone();
    if metadata.deletion_timestamp.is_some() || reconciler.namespace_is_going(world, &key.namespace) {
        grant(world, key, false);
        return Next::OnChange;
    }
    match round(world, reconciler, key, &object, &metadata).await {
        Ok(next) => next,
        Err(error) => reconciler.failed(world, key, &error, Class::Transient),
    }
}

fn grant(world: &World, key: &Key, granted: bool) {
    if world.grants.set(key.clone(), granted) {
        world.binding_queue.add(());
    }
}

async fn round(
    world: &World,
    reconciler: &Reconciler,
    key: &Key,
    object: &Object<CollectorTarget>,
    metadata: &ObjectMeta,
) -> Result<Next, dereference::Error> {
    let found = dereference::dereference(world, key);
    let (mut verdict, accepted) = validate::validate(object, &found);
    let generation = metadata.generation.unwrap_or(0);
    let owner = reference_of(metadata);
    let mut in_force = accepted.map(|accepted| InForce {
        target: accepted.target,
        spec: accepted.spec,
        policy: accepted.policy,
        generation,
    });
    // Of an edit that is not accepted at least this counts: who asks that nothing be written is not written to.
    let asked = object.readable().map(|object| object.spec.management_state.unwrap_or_default());
    let state = in_force.as_ref().map(|current| current.target.management_state).or(asked);
    let prepare = |current: &InForce| {
        build::build(&build::Input {
            target: &current.target,
            policy: &current.policy,
            spec: &current.spec,
            generation: current.generation,
            owner: &owner,
            settings: &world.settings,
        })
    };
    let mut prepared: Option<Resources<Prepared>> = None;
    let mut outcome = Outcome::Untouched;
    let mut class = None;
    if let Some(current) = &in_force {
        let resources = prepare(current);
        match reconciler.pod_security(world, &key.namespace, &resources).await {
            Ok(None) => prepared = Some(resources),
            Ok(Some(refusal)) => {
                verdict = Verdict::Refused(refusal);
                in_force = None;
            }
            Err(error) => {
                class = Some(error.class());
                outcome = Outcome::Failed { message: error.to_string() };
            }
        }
    }
    let mut revoked = matches!(verdict, Verdict::Refused(Refusal { revokes: true, .. }));
    if in_force.is_none() && !revoked {
        // A newer generation is refused or waits: the one before stays in force.
        if let Some(last) = last_good(world, key, metadata, &found).await? {
            if validate::lacks_permission(&last.target, &found) {
                revoked = true;
            } else {
                prepared = Some(prepare(&last));
                in_force = Some(last);
            }
        }
    }
    let scrapes_kubelet = in_force.as_ref().is_some_and(|current| current.target.scrapes_kubelet());
    let is_held = matches!(state, Some(ManagementState::Suspended | ManagementState::DryRun));
    if !is_held || revoked {
        grant(world, key, scrapes_kubelet);
    }
    let children_of = Owner::CollectorTarget(key.clone());
    if revoked {
        outcome = match reconciler.revoke(world, &children_of, &owner.uid).await {
            Ok(()) => Outcome::Revoked,
            Err(error) => {
                class = Some(error.class());
                Outcome::Failed { message: error.to_string() }
            }
        };
    }
    match (prepared, state) {
        (Some(_), Some(ManagementState::Suspended)) | (None, _) => {}
        (Some(resources), Some(ManagementState::DryRun)) => match reconciler.differences(&resources).await {
            Ok(lines) => outcome = Outcome::DryRun(lines),
            Err(error) => {
                class = Some(error.class());
                outcome = Outcome::Failed { message: error.to_string() };
            }
        },
        (Some(resources), _) => match apply::apply(world, reconciler, &children_of, &owner, resources).await {
            Ok(applied) => outcome = Outcome::Done(applied),
            Err(error) => {
                class = Some(error.class());
                outcome = Outcome::Failed { message: error.to_string() };
            }
        },
    }
    let judged = status::Judged { verdict, state, in_force, outcome };
    let next = status::settle(world, reconciler, key, metadata, object.readable(), &found, judged).await;
    if let Some(class) = class {
        world.metrics.errors.get_or_create(&ErrorLabels { kind: KIND, class: class.as_str() }).inc();
    }
    Ok(match (class, next) {
        (Some(Class::Transient), _) | (_, Err(())) => Next::Backoff,
        (Some(Class::Bug), _) => Next::After(AFTER_BUG),
        // Somebody has to act, and what they act on may be an object that no watch of ours sees.
        (Some(Class::WaitForChange), Ok(next)) => next.at_latest(UNSEEN_CHANGE),
        (_, Ok(next)) => next,
    })
}

/// The generation before, as far as it still can be in force.
async fn last_good(
    world: &World,
    key: &Key,
    metadata: &ObjectMeta,
    found: &dereference::Found,
) -> Result<Option<InForce>, dereference::Error> {
    let uid = metadata.uid.clone().unwrap_or_default();
    let Some(last) = dereference::last_good(world, key, &uid).await? else { return Ok(None) };
    let mut object = CollectorTarget::new("", last.spec.clone());
    object.metadata = metadata.clone();
    // What was valid once and no longer is, after an upgrade: its children are left as they are.
    let Ok(target) = ers_crds::validate::collector_target(&object, None) else { return Ok(None) };
    let Some(policy) = target.policy.clone().or_else(|| found.served_by.clone()) else { return Ok(None) };
    Ok(Some(InForce { target, spec: last.spec, policy, generation: last.generation }))
}

fn reference_of(metadata: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: ers_crds::API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}
