"""What POST /tasks is compared with: a plain REST framework view.

It checks with a serializer, inserts with ``objects.create`` and gives the same answer.
"""

from __future__ import annotations

from django.urls import path
from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks import registry
from tasks.models import Task
from tasks.pending import Lately
from tasks.resource import resource

lately = Lately()


class TaskSerializer(serializers.Serializer[Task]):
    title = serializers.CharField(max_length=1000, required=False)
    handler = serializers.CharField(max_length=255)
    payload = serializers.DictField(required=False)
    queue = serializers.RegexField(r"^[\w.-]{1,64}$", required=False)
    priority = serializers.IntegerField(min_value=-100, max_value=100, required=False)
    run_at = serializers.DateTimeField(required=False)
    delay_seconds = serializers.FloatField(min_value=0, required=False)
    max_attempts = serializers.IntegerField(min_value=1, max_value=1000, required=False)
    timeout_seconds = serializers.FloatField(min_value=1, required=False)


class TaskCollection(APIView):
    def post(self, request: Request) -> Response:
        serializer = TaskSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        registry.find_public(serializer.validated_data["handler"])
        now = timezone.now()
        task = Task.objects.create(created_at=now, ready_at=now, **serializer.validated_data)
        return Response(resource(task, lately()), status=201, headers={"Location": f"/tasks/{task.pk}"})


urlpatterns = [path("tasks", TaskCollection.as_view())]
