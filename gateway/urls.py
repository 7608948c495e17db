from django.urls import path, re_path
from django.views.decorators.csrf import csrf_exempt

from gateway import views
from gateway.routes import AZURE_PATH, ROUTES, paths_of

# Keys come in headers, never in cookies: there is nothing that another site could forge.
estimate = csrf_exempt(views.Estimate.as_view())
inference = csrf_exempt(views.Inference.as_view())

urlpatterns = [
    *(
        path(each.removeprefix("/"), inference, name=f"{route.name}{each}")
        for route in ROUTES
        for each in paths_of(route)
    ),
    re_path(AZURE_PATH, inference, name="azure-deployment"),
    path("v1/estimate", estimate, name="estimate"),
    path("estimate", estimate, name="estimate-bare"),
    path("v1/models", views.Models.as_view(), name="models"),
    path("models", views.Models.as_view(), name="models-bare"),
    path("v1/key", views.KeyDetail.as_view(), name="key-detail"),
    path("v1/requests/<uuid:request_id>", views.RequestDetail.as_view(), name="request-detail"),
]
