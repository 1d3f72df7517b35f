def my_day(request, context):
    return context
