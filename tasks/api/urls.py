"""Where the API's endpoints are."""

from __future__ import annotations

from django.urls import path

from tasks.api import metrics, queue_views, token_views, views, worker_views
from tasks.api.openapi.views import Docs, OpenApi

urlpatterns = [
    path("tasks", views.TaskCollection.as_view()),
    path("tasks/batch", views.TaskBatch.as_view()),
    path("task", views.TaskByQuery.as_view()),
    path("tasks/<str:task_id>", views.TaskDetail.as_view()),
    path("tasks/<str:task_id>/cancel", views.TaskCancel.as_view()),
    path("tasks/<str:task_id>/retry", views.TaskRetry.as_view()),
    path("tasks/<str:task_id>/run-now", views.TaskRunNow.as_view()),
    path("tasks/<str:task_id>/attempts", views.TaskAttempts.as_view()),
    path("tasks/<str:task_id>/events", views.TaskEvents.as_view()),
    path("queues", queue_views.QueueCollection.as_view()),
    path("queues/<str:name>", queue_views.QueueDetail.as_view()),
    path("queues/<str:name>/pause", queue_views.QueuePause.as_view()),
    path("queues/<str:name>/resume", queue_views.QueueResume.as_view()),
    path("queues/<str:name>/purge", queue_views.QueuePurge.as_view()),
    path("workers", worker_views.WorkerCollection.as_view()),
    path("workers/<str:worker_id>/drain", worker_views.WorkerDrain.as_view()),
    path("tokens", token_views.TokenCollection.as_view()),
    path("tokens/<str:token_id>", token_views.TokenDetail.as_view()),
    path("openapi.json", OpenApi.as_view()),
    path("docs", Docs.as_view()),
    path("metrics", metrics.Metrics.as_view()),
]
