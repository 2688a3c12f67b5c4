//! Signatures: made through the [`Guard`], checked by the strict rules of ed25519.

use crate::context::{Context, Proposal, Signature, Vote, part_bytes, proposal_bytes, vote_bytes};
use crate::guard::{Guard, Place, SignError, SitOut, Step};
use crate::malachite::{Round, SignedMessage, ValidatorProof, VoteExtensionScope};
use crate::{ProposalPart, health::Reporter};
use async_trait::async_trait;
use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use malachite_signing::{Error, VerificationResult};
use slackline_types::{Hash, PublicKey};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Checks signatures of one chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verifier {
    chain: Hash,
}

impl Verifier {
    pub(crate) fn new(chain: Hash) -> Self {
        Self { chain }
    }
}

fn result(valid: bool) -> Result<VerificationResult, Error> {
    Ok(VerificationResult::from_bool(valid))
}

#[async_trait]
impl malachite_signing::Verifier<Context> for Verifier {
    async fn verify_signed_vote(
        &self,
        vote: &Vote,
        signature: &Signature,
        key: &PublicKey,
    ) -> Result<VerificationResult, Error> {
        result(signature.is_of(&vote_bytes(&self.chain, vote), key))
    }

    async fn verify_signed_proposal(
        &self,
        proposal: &Proposal,
        signature: &Signature,
        key: &PublicKey,
    ) -> Result<VerificationResult, Error> {
        result(signature.is_of(&proposal_bytes(&self.chain, proposal), key))
    }

    async fn verify_signed_vote_extension(
        &self,
        _: &VoteExtensionScope<Context>,
        _: &Bytes,
        _: &Signature,
        _: &PublicKey,
    ) -> Result<VerificationResult, Error> {
        // There are none.
        result(false)
    }

    async fn verify_validator_proof(
        &self,
        proof: &ValidatorProof<Context>,
    ) -> Result<VerificationResult, Error> {
        let key = proof.decoded_public_key();
        result(key.is_ok_and(|key| proof.signature.is_of(&proof.preimage(), &key)))
    }
}

/// Signs with a key in this process. Clones share the guard.
#[derive(Clone)]
pub(crate) struct Signer(Arc<Inner>);

struct Inner {
    chain: Hash,
    key: SigningKey,
    guard: Mutex<Guard>,
    reporter: Reporter,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

impl Signer {
    pub(crate) fn new(chain: Hash, key: SigningKey, guard: Guard, reporter: Reporter) -> Self {
        Self(Arc::new(Inner {
            chain,
            key,
            guard: Mutex::new(guard),
            reporter,
        }))
    }

    /// Signs a part of a proposal. Parts need no guard: what they make others look at gets no vote without a proposal.
    pub(crate) fn sign_part(&self, part: &mut ProposalPart) {
        part.signature = self.plain(&part_bytes(&self.0.chain, part));
    }

    /// See [`Guard::sits_out`].
    pub(crate) fn sits_out(&self, next: u64) -> Option<SitOut> {
        self.guard().sits_out(next)
    }

    /// Tells the guard what the engine's log of `height` holds of this validator, or that there is none to be relied on.
    pub(crate) fn reconcile(
        &self,
        height: u64,
        logged: Option<&BTreeSet<Place>>,
    ) -> Result<(), SignError> {
        let Some(logged) = logged else {
            return self.guard().seal();
        };
        for place in self.guard().drop_unlogged(height, logged)? {
            tracing::warn!(
                ?place,
                "signed before the power failed, and never sent: it is forgotten"
            );
        }
        Ok(())
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.0.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the guard be asked again for what it refused.
    pub(crate) fn forgive(&self) -> Result<(), SignError> {
        self.guard().forgive()
    }

    fn plain(&self, message: &[u8]) -> Signature {
        Signature(self.0.key.sign(message).to_bytes())
    }

    /// Signs through the guard, off the executor's threads: it waits for the disk. An error makes the engine stop.
    async fn guarded(
        &self,
        height: u64,
        round: Round,
        step: Step,
        message: [u8; 32],
    ) -> Result<Signature, Error> {
        let round = round.as_u32().ok_or_else(Error::new)?;
        let place = Place {
            height,
            round,
            step,
        };
        let inner = self.0.clone();
        let signed = tokio::task::spawn_blocking(move || {
            let mut guard = inner.guard.lock().unwrap_or_else(PoisonError::into_inner);
            guard.sign(place, message, |message| {
                Signature(inner.key.sign(message).to_bytes())
            })
        });
        let result: Result<Signature, SignError> = signed.await.map_err(Error::from_source)?;
        result.map_err(|error| {
            self.0.reporter.stopped(&error);
            Error::from_source(error)
        })
    }
}

#[async_trait]
impl malachite_signing::Signer<Context> for Signer {
    async fn sign_vote(&self, vote: Vote) -> Result<SignedMessage<Context, Vote>, Error> {
        let message = vote_bytes(&self.0.chain, &vote);
        let signature = self
            .guarded(vote.height.0, vote.round, vote.kind.into(), message)
            .await?;
        Ok(SignedMessage::new(vote, signature))
    }

    async fn sign_proposal(
        &self,
        proposal: Proposal,
    ) -> Result<SignedMessage<Context, Proposal>, Error> {
        let message = proposal_bytes(&self.0.chain, &proposal);
        let signature = self
            .guarded(proposal.height.0, proposal.round, Step::Propose, message)
            .await?;
        Ok(SignedMessage::new(proposal, signature))
    }

    async fn sign_vote_extension(
        &self,
        _: VoteExtensionScope<Context>,
        _: Bytes,
    ) -> Result<SignedMessage<Context, Bytes>, Error> {
        Err(Error::from_source("there are no vote extensions"))
    }

    async fn sign_validator_proof(
        &self,
        key: Vec<u8>,
        peer: Vec<u8>,
    ) -> Result<ValidatorProof<Context>, Error> {
        let signature = self.plain(&ValidatorProof::<Context>::signing_bytes(&key, &peer));
        Ok(ValidatorProof::new(key, peer, signature))
    }
}
