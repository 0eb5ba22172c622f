//! ReportPolicy: five steps, always the same: dereference, validate, build, apply, status.

mod apply;
pub mod build;
mod dereference;
mod status;
mod validate;

pub(crate) use status::own_conditions;

use ers_crds::validate::ValidatedReportPolicy;
use ers_crds::{ManagementState, ReportPolicy, ReportPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::cache::Key;
use crate::child::{Applied, Prepared, Resources};
use crate::error::Class;
use crate::judge::{Refusal, Verdict};
use crate::metrics::ErrorLabels;
use crate::programmed::Words;
use crate::queue::Next;
use crate::reconciler::{AFTER_BUG, Reconciler, UNSEEN_CHANGE};
use crate::world::{Object, World};

/// Name of the kind, in labels and field managers.
pub const KIND: &str = "ReportPolicy";

/// What is in force: the newest accepted specification.
pub(crate) struct InForce {
    policy: ValidatedReportPolicy,
    spec: ReportPolicySpec,
    generation: i64,
}

/// What came of the writes.
pub(crate) enum Outcome {
    /// Nothing in force, or held: nothing was to be written.
    Untouched,
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
            Outcome::Untouched => Words::Untouched,
            Outcome::DryRun(lines) => Words::DryRun(lines.clone()),
            Outcome::Done(resources) => Words::Done { children: resources.children.len() },
            Outcome::Failed { message } => Words::Failed(message.clone()),
        }
    }
}

/// One round for one policy.
pub async fn reconcile(world: &World, reconciler: &Reconciler, key: &Key) -> Next {
    let Some(object) = world.policies.get(key) else { return Next::OnChange };
    let metadata = object.metadata().clone();
    if metadata.deletion_timestamp.is_some() || reconciler.namespace_is_going(world, &key.namespace) {
        return Next::OnChange;
    }
    match round(world, reconciler, key, &object, &metadata).await {
        Ok(next) => next,
        Err(error) => reconciler.failed(world, key, &error, Class::Transient),
    }
}

async fn round(
    world: &World,
    reconciler: &Reconciler,
    key: &Key,
    object: &Object<ReportPolicy>,
    metadata: &ObjectMeta,
) -> Result<Next, dereference::Error> {
    let found = dereference::dereference(world, key, object).await?;
    let (mut verdict, accepted) = validate::validate(object, &found);
    let generation = metadata.generation.unwrap_or(0);
    let owner = reference_of(metadata);
    let mut in_force = accepted.map(|(policy, spec)| InForce { policy, spec, generation });
    // Of an edit that is not accepted at least this counts: who asks that nothing be written is not written to.
    let asked = object.readable().map(|object| object.spec.management_state.unwrap_or_default());
    let state = in_force.as_ref().map(|current| current.policy.management_state).or(asked);
    let node_ranges = world.node_ranges();
    let prepare = |current: &InForce| {
        build::build(&build::Input {
            policy: &current.policy,
            spec: &current.spec,
            generation: current.generation,
            owner: &owner,
            settings: &world.settings,
            node_ranges: &node_ranges,
        })
    };
    let mut prepared: Option<Resources<Prepared>> = None;
    let mut outcome = Outcome::Untouched;
    let mut class = None;
    if let Some(current) = &in_force {
        match prepare(current) {
            Ok(resources) => match reconciler.pod_security(world, &key.namespace, &resources).await {
                Ok(None) => prepared = Some(resources),
                Ok(Some(refusal)) => {
                    verdict = Verdict::Refused(refusal);
                    in_force = None;
                }
                Err(error) => {
                    class = Some(error.class());
                    outcome = Outcome::Failed { message: error.to_string() };
                }
            },
            Err(error) => {
                class = Some(Class::Bug);
                outcome = Outcome::Failed { message: reconciler.chain(&error) };
            }
        }
    }
    if in_force.is_none() && !matches!(verdict, Verdict::Refused(Refusal { revokes: true, .. })) {
        // A newer generation is refused: the one before stays in force.
        if let Some((last, resources)) = last_good(&found, metadata, &prepare) {
            in_force = Some(last);
            prepared = Some(resources);
        }
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
        (Some(resources), _) => {
            match apply::apply(world, reconciler, key, &found, in_force.as_ref(), &owner, resources).await {
                Ok(applied) => outcome = Outcome::Done(applied),
                Err(error) => {
                    class = Some(error.class());
                    outcome = Outcome::Failed { message: error.to_string() };
                }
            }
        }
    }
    let judged =
        status::Judged { verdict, state, in_force_generation: in_force.map(|current| current.generation), outcome };
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

fn last_good<E>(
    found: &dereference::Found,
    metadata: &ObjectMeta,
    prepare: &impl Fn(&InForce) -> Result<Resources<Prepared>, E>,
) -> Option<(InForce, Resources<Prepared>)> {
    let last = found.last_good.as_ref()?;
    let mut object = ReportPolicy::new("", last.spec.clone());
    object.metadata = ObjectMeta { managed_fields: None, ..metadata.clone() };
    // What was valid once and no longer is, after an upgrade: its children are left as they are.
    let policy = ers_crds::validate::report_policy(&object, None).ok()?;
    let current = InForce { policy, spec: last.spec.clone(), generation: last.generation };
    let resources = prepare(&current).ok()?;
    Some((current, resources))
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
