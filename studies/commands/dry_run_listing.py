"""What a search would do, line by line."""

from __future__ import annotations

from sconv_search.studies.commands.tasks import input_text
from sconv_search.studies.monitor import Monitor, counted
from sconv_search.studies.search.dry_run import DryRun
from sconv_search.studies.search.runner import amounts
from sconv_search.studies.space.site_text import site_lines
from sconv_search.training.schedule import Schedule


def say_dry_run(preview: DryRun, monitor: Monitor) -> None:
    """Says it; a plan's sites one a line."""
    shape = input_text(preview.input_shape)
    monitor.say(
        f"{preview.network} of task {preview.task} on {shape}, scored by {preview.metric}: {amounts(preview.cost)}"
    )
    layers, options = counted(len(preview.options), "layer"), counted(sum(preview.options.values()), "option")
    monitor.say(f"{layers} with {options} of {', '.join(preview.methods)}")
    for line in site_lines(preview.options, preview.skipped):
        monitor.say(line)
    for line in preview.reachable:
        monitor.say(line)
    if preview.plan is None or preview.plan_cost is None:
        monitor.say("plan: none meets the budget")
    else:
        share = preview.plan_cost.flops / preview.cost.flops
        monitor.say(f"a plan that meets it ({share:.1%} of dense FLOPs, {preview.plan_cost.params:,} parameters):")
        for name, choice in preview.plan.sites.items():
            monitor.say(f"  {name}: {choice.method} {dict(choice.structure)}")
    monitor.say(f"search: {counted(preview.trials, 'trial')} of {_words(preview.search_schedule)}")
    monitor.say(f"confirmation: {_words(preview.confirm_schedule)}, for each plan and seed")
    monitor.say(_data(preview))
    for note in preview.notes:
        monitor.say(note)


def _words(schedule: Schedule) -> str:
    if not schedule.epochs:
        return "no training"
    peak = f"learning rate up to {schedule.learning_rate:g}"
    return f"{counted(schedule.epochs, 'epoch')}, batches of {schedule.batch_size}, {peak}, learning {_goal(schedule)}"


def _goal(schedule: Schedule) -> str:
    if not schedule.distillation:
        return "the labels"
    outputs = "logits" if schedule.teacher_loss == "logits" else "soft targets"
    return f"the dense network's {outputs}" + (" and the labels" if schedule.distillation < 1 else "")


def _data(preview: DryRun) -> str:
    if preview.data is None:
        return "data: no files are named by the task"
    said = [words for words in (preview.there, preview.missing) if words is not None]
    return f"data: {'; '.join(said) or 'found'}"
