"""A data scientist's ordinary work with the `kfp` SDK; runs in the SDK's own environment, imports nothing of ours.

Reads a JSON object from stdin: `host`, `namespace`, `folder` for files, one credential
(`token`, `token_file` or `cookies`), and for a stranger `ids`, the ids of somebody else's
objects. Every step is tried, whatever became of the others. Prints a JSON object:
`steps` (name → null, or the SDK's exception as `type`, `status` and `text`) and `ids`.
"""
# The SDK is in an environment of its own, where mypy does not look.
# mypy: disable-error-code="import-not-found,untyped-decorator,no-any-return"

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kfp
from kfp import compiler, dsl
from kfp.client import ServiceAccountTokenVolumeCredentials
from kfp_server_api import ApiException


@dsl.component(base_image="python:3.11")
def double(number: int) -> int:
    return number * 2


@dsl.pipeline(name="doubling")
def doubling(number: int = 21) -> int:
    return double(number=number).output


class Work:
    """The steps, in order. Each is a method; ids go from one to the next."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.ids: dict[str, str] = dict(task.get("ids", {}))
        self.namespace = task["namespace"]
        self.package = str(Path(task["folder"]) / "doubling.yaml")
        compiler.Compiler().compile(doubling, self.package)
        credentials = ServiceAccountTokenVolumeCredentials(task["token_file"]) if "token_file" in task else None
        self.client = kfp.Client(
            host=task["host"],
            namespace=self.namespace,
            existing_token=task.get("token"),
            cookies=task.get("cookies"),
            credentials=credentials,
        )

    def keep(self, kind: str, made: Any) -> None:
        self.ids[kind] = getattr(made, kind)

    def _get(self, path: str, **query: str) -> None:
        self.client._run_api.api_client.call_api(path, "GET", query_params=[*query.items()], auth_settings=["Bearer"])

    def list_experiments(self) -> None:
        self.client.list_experiments(namespace=self.namespace)

    def list_runs(self) -> None:
        self.client.list_runs(namespace=self.namespace, sort_by="created_at desc")

    def list_recurring_runs(self) -> None:
        self.client.list_recurring_runs(namespace=self.namespace)

    def list_pipelines(self) -> None:
        self.client.list_pipelines(namespace=self.namespace)

    def create_experiment(self) -> None:
        self.keep("experiment_id", self.client.create_experiment("first steps", namespace=self.namespace))

    def get_experiment(self) -> None:
        self.client.get_experiment(experiment_id=self.ids["experiment_id"])

    def upload_pipeline(self) -> None:
        self.keep("pipeline_id", self.client.upload_pipeline(self.package, "doubling", "a test", self.namespace))

    def upload_pipeline_version(self) -> None:
        made = self.client.upload_pipeline_version(self.package, "second", pipeline_id=self.ids["pipeline_id"])
        self.keep("pipeline_version_id", made)

    def get_pipeline(self) -> None:
        self.client.get_pipeline(self.ids["pipeline_id"])

    def list_pipeline_versions(self) -> None:
        self.client.list_pipeline_versions(self.ids["pipeline_id"])

    def get_pipeline_version(self) -> None:
        self.client.get_pipeline_version(self.ids["pipeline_id"], self.ids["pipeline_version_id"])

    def run_package(self) -> None:
        run = self.client.run_pipeline(self.ids["experiment_id"], "from a file", self.package, {"number": 3})
        self.keep("run_id", run)

    def run_uploaded_pipeline(self) -> None:
        self.client.run_pipeline(
            self.ids["experiment_id"],
            "from a version",
            pipeline_id=self.ids["pipeline_id"],
            version_id=self.ids["pipeline_version_id"],
            service_account="default-editor",
        )

    def run_function(self) -> None:
        self.client.create_run_from_pipeline_func(
            doubling,
            arguments={"number": 4},
            run_name="from a function",
            experiment_name="first steps",
            namespace=self.namespace,
        )

    def get_run(self) -> None:
        self.client.get_run(self.ids["run_id"])

    def wait_for_run(self) -> None:
        self.client.wait_for_run_completion(self.ids["run_id"], timeout=10)

    def read_artifact(self) -> None:
        """Read what a step of the run made; the SDK has no call for it, so its client sends what a user would."""
        self._get(f"/apis/v2beta1/runs/{self.ids['run_id']}/nodes/doubling-1/artifacts/main-logs:read")

    def get_artifact(self) -> None:
        """Read it where the pipelines UI does, by its key in the store."""
        key = f"private-artifacts/{self.namespace}/v2/artifacts/doubling/{self.ids['run_id']}/double/out"
        query = {"source": "minio", "bucket": "mlpipeline", "key": key, "namespace": self.namespace}
        self._get("/artifacts/get", **query)

    def list_runs_of_experiment(self) -> None:
        self.client.list_runs(experiment_id=self.ids["experiment_id"])

    def terminate_run(self) -> None:
        self.client.terminate_run(self.ids["run_id"])

    def archive_run(self) -> None:
        self.client.archive_run(self.ids["run_id"])

    def unarchive_run(self) -> None:
        self.client.unarchive_run(self.ids["run_id"])

    def create_recurring_run(self) -> None:
        made = self.client.create_recurring_run(
            self.ids["experiment_id"],
            "every night",
            cron_expression="0 0 3 * * *",
            pipeline_id=self.ids["pipeline_id"],
            version_id=self.ids["pipeline_version_id"],
        )
        self.keep("recurring_run_id", made)

    def get_recurring_run(self) -> None:
        self.client.get_recurring_run(self.ids["recurring_run_id"])

    def list_recurring_runs_of_experiment(self) -> None:
        self.client.list_recurring_runs(experiment_id=self.ids["experiment_id"])

    def disable_recurring_run(self) -> None:
        self.client.disable_recurring_run(self.ids["recurring_run_id"])

    def enable_recurring_run(self) -> None:
        self.client.enable_recurring_run(self.ids["recurring_run_id"])

    def delete_recurring_run(self) -> None:
        self.client.delete_recurring_run(self.ids["recurring_run_id"])

    def delete_run(self) -> None:
        self.client.delete_run(self.ids["run_id"])

    def delete_pipeline_version(self) -> None:
        self.client.delete_pipeline_version(self.ids["pipeline_id"], self.ids["pipeline_version_id"])

    def delete_pipeline(self) -> None:
        self.client.delete_pipeline(self.ids["pipeline_id"])

    def archive_experiment(self) -> None:
        self.client.archive_experiment(self.ids["experiment_id"])

    def unarchive_experiment(self) -> None:
        self.client.unarchive_experiment(self.ids["experiment_id"])

    def delete_experiment(self) -> None:
        self.client.delete_experiment(self.ids["experiment_id"])

    def get_pipeline_id_by_name(self) -> None:
        """Look a pipeline up by its name: the SDK lists without a namespace."""
        self.client.get_pipeline_id("doubling")

    def list_shared_pipelines(self) -> None:
        """List without a namespace, which in KFP are the pipelines that belong to nobody."""
        self.client.list_pipelines()

    def healthz(self) -> None:
        """Ask for the multi-user flag, once; the SDK's own loop sleeps between attempts."""
        self.client._healthz_api.healthz_service_get_healthz()


def outcome(step: Callable[[], None]) -> dict[str, Any] | None:
    try:
        step()
    except ApiException as error:
        return {"type": type(error).__name__, "status": error.status, "text": str(error)}
    except Exception as error:  # noqa: BLE001 -- whatever a step raises is its outcome
        return {"type": type(error).__name__, "status": None, "text": str(error)}
    return None


def main() -> None:
    warnings.simplefilter("ignore")
    task = json.load(sys.stdin)
    printed, sys.stdout = sys.stdout, sys.stderr  # the SDK prints links
    work = Work(task)
    helpers = {"keep"}
    names = [name for name in vars(Work) if not name.startswith("_") and name not in helpers]
    steps = {name: outcome(getattr(work, name)) for name in names}
    json.dump({"steps": steps, "ids": work.ids}, printed)


if __name__ == "__main__":
    main()
