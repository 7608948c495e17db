from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from gateway import views

# Keys come in headers, never in cookies: there is nothing that another site could forge.
estimate = csrf_exempt(views.Estimate.as_view())
chat_completions = csrf_exempt(views.ChatCompletions.as_view())

urlpatterns = [
    path("v1/chat/completions", chat_completions, name="chat-completions"),
    path("chat/completions", chat_completions, name="chat-completions-bare"),
    path("v1/estimate", estimate, name="estimate"),
    path("estimate", estimate, name="estimate-bare"),
    path("v1/models", views.Models.as_view(), name="models"),
    path("models", views.Models.as_view(), name="models-bare"),
    path("v1/key", views.KeyDetail.as_view(), name="key-detail"),
    path("v1/requests/<uuid:request_id>", views.RequestDetail.as_view(), name="request-detail"),
]
