"""What a search would do, line by line."""

from __future__ import annotations

from sconv_search.studies.commands.tasks import input_text
from sconv_search.studies.monitor import Monitor, counted
from sconv_search.studies.search.dry_run import DryRun
from sconv_search.studies.search.runner import amounts
from sconv_search.studies.space.site_text import site_lines
from sconv_search.training.schedule import Schedule


def say_dry_run(found: DryRun, monitor: Monitor) -> None:
    """Says it; a plan's sites one a line."""
    shape = input_text(found.input_shape)
    monitor.say(f"{found.network} of task {found.task} on {shape}, scored by {found.metric}: {amounts(found.cost)}")
    layers, options = counted(len(found.options), "layer"), counted(sum(found.options.values()), "option")
    monitor.say(f"{layers} with {options} of {', '.join(found.methods)}")
    for line in site_lines(found.options, found.skipped):
        monitor.say(line)
    for line in found.reachable:
        monitor.say(line)
    if found.plan is None or found.plan_cost is None:
        monitor.say("plan: none meets the budget")
    else:
        share = found.plan_cost.flops / found.cost.flops
        monitor.say(f"a plan that meets it ({share:.1%} of dense FLOPs, {found.plan_cost.params:,} parameters):")
        for name, choice in found.plan.sites.items():
            monitor.say(f"  {name}: {choice.method} {dict(choice.structure)}")
    monitor.say(f"search: {counted(found.trials, 'trial')} of {_words(found.search_schedule)}")
    monitor.say(f"confirmation: {_words(found.confirm_schedule)}, for each plan and seed")
    monitor.say(_data(found))


def _words(schedule: Schedule) -> str:
    if not schedule.epochs:
        return "no training"
    peak = f"learning rate up to {schedule.learning_rate:g}"
    return f"{counted(schedule.epochs, 'epoch')}, batches of {schedule.batch_size}, {peak}"


def _data(found: DryRun) -> str:
    if found.data is None:
        return "data: no files are named by the task"
    return f"data: {found.missing or 'found'}"
