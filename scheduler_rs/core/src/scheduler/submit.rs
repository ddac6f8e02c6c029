//! Queueing a batch: all of it or nothing.

use super::Scheduler;
use crate::group::GroupKey;
use crate::queue::BucketKey;
use crate::ticket::{NEVER, Ticket, due_ns};
use crate::token_buckets::bucket_of;
use crate::{BatchId, BatchOptions, CLASSES, Error, Prompt, TicketId};

impl Scheduler {
    /// Queues all prompts or none, and returns their tickets in the same order.
    ///
    /// A batch may be submitted to again: its timeouts are then the ones given last.
    pub fn submit(
        &mut self,
        now_ns: u64,
        batch: BatchId,
        prompts: &[Prompt],
        options: BatchOptions,
    ) -> Result<Vec<TicketId>, Error> {
        self.advance(now_ns);
        prompts.iter().try_for_each(Prompt::check)?;
        prompts.iter().try_for_each(|prompt| self.check_limits(prompt))?;
        self.check_tenant_limit(batch, options.tenant, prompts)?;
        self.admit(prompts.len())?;
        if prompts.is_empty() {
            return Ok(Vec::new());
        }
        let foreseen = self.foresee(batch, prompts, &options)?;
        let tickets = self.enqueue(batch, prompts, options);
        self.note_foreseen(foreseen, prompts, &tickets);
        Ok(tickets)
    }

    /// How many more tickets may wait now.
    #[must_use]
    pub fn queue_room(&self) -> u32 {
        self.config.queue_limit.saturating_sub(self.counters.queued)
    }

    fn admit(&mut self, prompts: usize) -> Result<(), Error> {
        let (queue_limit, queued) = (self.config.queue_limit, self.counters.queued);
        if prompts > queue_limit as usize {
            self.counters.refused += prompts as u64;
            return Err(Error::BatchTooLarge { prompts, queue_limit });
        }
        let taken = queued as usize + prompts;
        let missing = taken.saturating_sub(queue_limit as usize);
        if missing > 0 || prompts > self.tickets.room() {
            self.counters.refused += prompts as u64;
            let retry_after = self.drain_rate.retry_after(self.now_ns, missing.max(1));
            let retry_after_ns = retry_after.as_nanos() as u64;
            return Err(Error::QueueFull { prompts, queued, queue_limit, retry_after_ns });
        }
        Ok(())
    }

    fn enqueue(&mut self, id: BatchId, prompts: &[Prompt], options: BatchOptions) -> Vec<TicketId> {
        let batch_slot = self.batches.find_or_insert(id, options.tenant);
        self.counters.submitted += prompts.len() as u64;
        let mut coming = [0; CLASSES];
        for prompt in prompts {
            coming[prompt.class as usize] += 1;
        }
        let mut ids = Vec::with_capacity(prompts.len());
        let mut rest = prompts;
        while let Some(first) = rest.first() {
            let class = first.class as u8;
            let too_small = self.too_small_for(first.model, first.limited_tokens());
            let alike = rest.iter().take_while(|prompt| {
                (prompt.class, prompt.model) == (first.class, first.model)
                    && (!self.limits_tokens
                        || self.too_small_for(prompt.model, prompt.limited_tokens()) == too_small)
            });
            let (run, later) = rest.split_at(alike.count());
            let group = self.group_for(GroupKey {
                class,
                model: first.model,
                excluded: Vec::new(),
                too_small,
                avoided: None,
            });
            let flow = self.flow_for(class, batch_slot, options.weight, coming[usize::from(class)]);
            self.enter(batch_slot, group, flow, run);
            ids.extend(run.iter().map(|prompt| self.enqueue_one(batch_slot, group, flow, prompt)));
            coming[usize::from(class)] -= run.len();
            rest = later;
        }
        self.set_batch_timeouts(batch_slot, options);
        ids
    }

    /// Counts prompts of one class and group that come together.
    fn enter(&mut self, batch: u32, group: u32, flow: u32, run: &[Prompt]) {
        let count = run.len() as u32;
        let group = &mut self.groups[group];
        group.users += count;
        group.queued += count;
        group.queued_tokens += run.iter().map(|prompt| u64::from(prompt.tokens)).sum::<u64>();
        let class = group.key.class;
        self.batches[batch].queued += count;
        self.batches[batch].tickets.reserve(run.len());
        self.counters.queued += count;
        self.enter_flow(flow, batch, class, count);
    }

    fn enqueue_one(&mut self, batch: u32, group: u32, flow: u32, prompt: &Prompt) -> TicketId {
        let now_ns = self.now_ns;
        let bucket = bucket_of(prompt.tokens);
        let queue_due_ns = due_ns(now_ns, prompt.queue_timeout_ns);
        let due_ns = due_ns(now_ns, prompt.ttft_deadline_ns);
        let slot = self.tickets.insert(Ticket {
            arrival_ns: now_ns,
            batch,
            index: prompt.index,
            group,
            flow,
            tokens: prompt.tokens,
            output_tokens: prompt.output_tokens,
            sequential: prompt.sequential,
            key: BucketKey::new(bucket, bucket, false),
            class: prompt.class as u8,
            ..Ticket::FREE
        });
        if queue_due_ns.min(due_ns) < NEVER {
            let course = self.tickets.course_mut(slot);
            (course.queue_due_ns, course.due_ns) = (queue_due_ns, due_ns);
        }
        let roll = &mut self.batches[batch];
        roll.len += 1;
        roll.push(&self.tickets, slot);
        if self.is_barred(slot) {
            self.bar(slot);
        } else {
            self.batches[batch].runs_sequential = prompt.sequential;
            self.return_to_bucket(slot);
        }
        self.arm_ticket(slot);
        self.tickets[slot].id
    }
}
